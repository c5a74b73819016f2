"""A peer's side of the protocol that `benchmarks/src/peer-process.ts` describes, and the inputs that all peers share."""

import json
import os
import sys
import time

import numpy as np

ANSWERS = 3


def noise(shape, seed):
    """Numbers in [-1/2, 1/2): a hash of the place and the seed, the same in every language."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint32)
    x += np.uint32((seed * 0x9E3779B9) & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return ((x >> np.uint32(8)).astype(np.float32) / np.float32(2**24) - np.float32(0.5)).reshape(shape)


def tokens(count, vocabulary, begin=0):
    """The ids and targets of the small transformer."""
    return [((i + begin) * 7919 + 13) % vocabulary for i in range(count)]


def transformer_parameters(sizes, matrix, ones):
    """Parameters of the small transformer: seeds count up in this order."""
    width, vocabulary, hidden = sizes["width"], sizes["vocabulary"], sizes["hidden"]
    seed = 9

    def next_matrix(rows, columns):
        nonlocal seed
        seed += 1
        return matrix((rows, columns), seed)

    outer = {"table": next_matrix(vocabulary, width), "head": next_matrix(width, vocabulary), "last": ones(width)}
    blocks = []
    for _ in range(sizes["layers"]):
        block = {name: next_matrix(width, width) for name in "qkvo"}
        block["gate"], block["up"] = next_matrix(width, hidden), next_matrix(width, hidden)
        block["down"] = next_matrix(hidden, width)
        block["before"], block["between"] = ones(width), ones(width)
        blocks.append(block)
    return outer, blocks


def serve(version, works):
    """
    Answers until the input ends. `works` has functions by name, from sizes to (run, sync, result): do the work once, wait
    for all that was asked for (None where `run` waits), and the elements of the result.
    """
    answers = os.fdopen(ANSWERS, "w")

    def answer(content):
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer({"version": version})
    current = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request["do"] == "prepare":
                current = None
                work = works.get(request["work"])
                if work is None:
                    answer({"fingerprint": None})
                    continue
                current = work(request["sizes"])
                values = np.asarray(current[2]()).reshape(-1)
                places = [0, min(1, len(values) - 1), len(values) // 2, len(values) - 1]
                answer({"fingerprint": [float(values[i]) for i in places]})
            else:
                run, sync, _ = current
                if sync:
                    sync()
                begin = time.perf_counter()
                for _ in range(request["repeats"]):
                    run()
                if sync:
                    sync()
                answer({"milliseconds": (time.perf_counter() - begin) * 1e3})
        except Exception as error:  # whatever it is, the other side hears of it
            answer({"error": f"{type(error).__name__}: {error}"[:500]})
