"""NumPy on the CPU."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import numpy as np
from serve import noise, serve


def once(f, *shapes):
    inputs = [noise(shape, i + 1) for i, shape in enumerate(shapes)]
    return lambda: f(*inputs), None, lambda: f(*inputs)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


serve(
    np.__version__,
    {
        "matmul": lambda s: once(np.matmul, (s["n"], s["n"]), (s["n"], s["n"])),
        "matvec": lambda s: once(np.matmul, (1, s["n"]), (s["n"], s["n"])),
        "matvec-transposed": lambda s: once(lambda x, w: x @ w.T, (1, s["n"]), (s["n"], s["n"])),
        "rms-norm": lambda s: once(rms_norm, (s["rows"], s["width"]), (s["width"],)),
        "softmax": lambda s: once(softmax, (s["rows"], s["width"])),
        "add": lambda s: once(np.add, (s["n"],), (s["n"],)),
    },
)
