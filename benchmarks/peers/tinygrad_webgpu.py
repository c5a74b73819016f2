"""tinygrad on WebGPU, through Dawn."""

import importlib.util
import os
import platform
import sys
from importlib.metadata import version

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
DEVICE = "WEBGPU"
os.environ["DEV"] = DEVICE
dawn = importlib.util.find_spec("pydawn").submodule_search_locations[0]
suffix = {"linux": "so", "darwin": "dylib", "win32": "dll"}[sys.platform]
library = "libwebgpu_dawn.dll" if suffix == "dll" else f"libwebgpu_dawn_{platform.machine()}.{suffix}"
os.environ.setdefault("WEBGPU_PATH", os.path.join(dawn, "lib", library))

import numpy as np
from serve import noise, serve, tokens, transformer_parameters
from tinygrad import Device, Tensor, TinyJit


def sync():
    Device[DEVICE].synchronize()


def draw(shape, seed, scale=1.0):
    return Tensor(noise(shape, seed) * np.float32(scale), device=DEVICE).realize()


def once(f, *shapes):
    inputs = [draw(shape, i + 1) for i, shape in enumerate(shapes)]
    step = TinyJit(lambda *args: f(*args).realize())
    for _ in range(2):  # the second call is the one that it captures
        step(*inputs)
    return lambda: step(*inputs), sync, lambda: step(*inputs).numpy()


def attention(sizes):
    length, heads, groups, width = (sizes[name] for name in ("length", "heads", "groups", "width"))

    def f(*qkv):
        q, k, v = (x.transpose(1, 2) for x in qkv)
        k, v = (x.repeat_interleave(heads // groups, 1) for x in (k, v))
        return q.scaled_dot_product_attention(k, v, is_causal=True).transpose(1, 2).contiguous()

    return once(f, (1, length, heads, width), (1, length, groups, width), (1, length, groups, width))


def norm(x, weight):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def training(parameters, loss):
    losses = []

    @TinyJit
    def step():
        value = loss()
        gradients = value.gradient(*parameters)
        for parameter, gradient in zip(parameters, gradients):
            parameter.assign(parameter.detach() - gradient * 0.1)
        Tensor.realize(value, *parameters)
        return value

    def run():
        losses[1:] = [float(step().numpy())]

    def result():
        run()
        return losses[0]

    return run, sync, result


def mlp(sizes):
    batch, width, hidden = sizes["batch"], sizes["width"], sizes["hidden"]
    x, y = draw((batch, width), 1), draw((batch, width), 2)
    up, down = draw((width, hidden), 3, 0.1), draw((hidden, width), 4, 0.1)
    return training([up, down], lambda: ((x @ up).relu() @ down - y).square().mean())


def transformer(sizes):
    length, width, heads, vocabulary = (sizes[name] for name in ("tokens", "width", "heads", "vocabulary"))
    outer, blocks = transformer_parameters(
        sizes,
        lambda shape, seed: draw(shape, seed, 0.2),
        lambda n: Tensor(np.ones(n, np.float32), device=DEVICE).realize(),
    )
    one_hot = np.eye(vocabulary, dtype=np.float32)
    ids, targets = (
        Tensor(one_hot[tokens(length, vocabulary, begin)], device=DEVICE).realize() for begin in (0, 1)
    )

    def loss():
        x = ids @ outer["table"]
        for b in blocks:
            h = norm(x, b["before"])
            q, k, v = ((h @ b[c]).reshape(1, length, heads, -1).transpose(1, 2) for c in "qkv")
            y = q.scaled_dot_product_attention(k, v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(length, width) @ b["o"]
            h = norm(x, b["between"])
            x = x + ((h @ b["gate"]).silu() * (h @ b["up"])) @ b["down"]
        logits = norm(x, outer["last"]) @ outer["head"]
        return -(logits.log_softmax(-1) * targets).sum(-1).mean()

    return training([*outer.values(), *(p for b in blocks for p in b.values())], loss)


serve(
    version("tinygrad"),
    {
        "matmul": lambda s: once(lambda a, b: a @ b, (s["n"], s["n"]), (s["n"], s["n"])),
        "matvec": lambda s: once(lambda x, w: x @ w, (1, s["n"]), (s["n"], s["n"])),
        "matvec-transposed": lambda s: once(lambda x, w: x @ w.T, (1, s["n"]), (s["n"], s["n"])),
        "attention": attention,
        "rms-norm": lambda s: once(norm, (s["rows"], s["width"]), (s["width"],)),
        "softmax": lambda s: once(lambda x: x.softmax(-1), (s["rows"], s["width"])),
        "add": lambda s: once(lambda a, b: a + b, (s["n"],), (s["n"],)),
        "mlp": mlp,
        "transformer": transformer,
    },
)
