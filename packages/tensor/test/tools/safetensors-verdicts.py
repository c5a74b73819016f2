"""Asks the reference for its verdict on a stream of files.

    pip install safetensors==0.8.0
    npx tsx --conditions=@rot/source packages/tensor/test/tools/safetensors-stream.ts |
        python3 packages/tensor/test/tools/safetensors-verdicts.py packages/tensor/test/data/safetensors

stdin holds, for each file, its length in 4 little-endian bytes and then itself. Writes `verdicts.bin`, one bit a file,
the lowest bit of a byte first, 1 for accepted, and `verdicts.json`, which says of what.
"""

import hashlib
import json
import pathlib
import struct
import sys
from importlib.metadata import version

from safetensors import SafetensorError, deserialize


def accepts(file):
    try:
        deserialize(file)
    except SafetensorError:
        return False
    return True


def main():
    folder = pathlib.Path(sys.argv[1])
    digest = hashlib.sha256()
    verdicts = bytearray()
    count = accepted = 0
    while prefix := sys.stdin.buffer.read(4):
        file = sys.stdin.buffer.read(struct.unpack("<I", prefix)[0])
        digest.update(prefix)
        digest.update(file)
        if count % 8 == 0:
            verdicts.append(0)
        if accepts(file):
            verdicts[-1] |= 1 << (count % 8)
            accepted += 1
        count += 1
    (folder / "verdicts.bin").write_bytes(verdicts)
    about = {
        "reference": f"safetensors {version('safetensors')}",
        "files": count,
        "accepted": accepted,
        "sha256": digest.hexdigest(),
    }
    (folder / "verdicts.json").write_text(json.dumps(about, indent=2) + "\n")
    print(about)


main()
