"""PyTorch on the CPU."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import torch
import torch.nn.functional as F
from serve import noise, serve, tokens, transformer_parameters

torch.set_num_threads(os.cpu_count() or 1)


def draw(shape, seed):
    return torch.from_numpy(noise(shape, seed))


def once(f):
    def run():
        with torch.no_grad():
            return f()

    return run, None, lambda: run().numpy()


def product(a, b, transposed=False):
    a, b = draw(a, 1), draw(b, 2)
    return once(lambda: F.linear(a, b) if transposed else a @ b)


def attention(sizes):
    length, heads, groups, width = (sizes[name] for name in ("length", "heads", "groups", "width"))
    q, k, v = (draw((1, length, h, width), i + 1).transpose(1, 2) for i, h in enumerate((heads, groups, groups)))
    return once(
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).contiguous()
    )


def rms_norm(sizes):
    x, weight = draw((sizes["rows"], sizes["width"]), 1), draw((sizes["width"],), 2)
    return once(lambda: F.rms_norm(x, (sizes["width"],), weight, 1e-6))


def softmax(sizes):
    x = draw((sizes["rows"], sizes["width"]), 1)
    return once(lambda: torch.softmax(x, -1))


def add(sizes):
    a, b = draw((sizes["n"],), 1), draw((sizes["n"],), 2)
    return once(lambda: a + b)


def dispatches(sizes):
    start = draw((sizes["width"],), 1)

    def chain():
        x = start
        for i in range(sizes["count"]):
            x = x + 1e-3 * (i + 1)
        return x

    return once(chain)


def training(parameters, loss):
    losses = []

    def run():
        value = loss()
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter.sub_(gradient, alpha=0.1)
        losses[1:] = [value.item()]

    def result():
        run()
        return losses[0]

    return run, None, result


def mlp(sizes):
    batch, width, hidden = sizes["batch"], sizes["width"], sizes["hidden"]
    x, y = draw((batch, width), 1), draw((batch, width), 2)
    up, down = (draw((width, hidden), 3) * 0.1).requires_grad_(), (draw((hidden, width), 4) * 0.1).requires_grad_()
    return training([up, down], lambda: ((torch.relu(x @ up) @ down - y) ** 2).mean())


def transformer(sizes):
    length, width, heads, vocabulary = (sizes[name] for name in ("tokens", "width", "heads", "vocabulary"))
    outer, blocks = transformer_parameters(
        sizes,
        lambda shape, seed: (draw(shape, seed) * 0.2).requires_grad_(),
        lambda n: torch.ones(n, requires_grad=True),
    )
    ids, targets = torch.tensor(tokens(length, vocabulary)), torch.tensor(tokens(length, vocabulary, 1))

    def loss():
        x = outer["table"][ids]
        for b in blocks:
            h = F.rms_norm(x, (width,), b["before"], 1e-6)
            q, k, v = ((h @ b[c]).reshape(1, length, heads, -1).transpose(1, 2) for c in "qkv")
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(length, width) @ b["o"]
            h = F.rms_norm(x, (width,), b["between"], 1e-6)
            x = x + (F.silu(h @ b["gate"]) * (h @ b["up"])) @ b["down"]
        return F.cross_entropy(F.rms_norm(x, (width,), outer["last"], 1e-6) @ outer["head"], targets)

    return training([*outer.values(), *(p for b in blocks for p in b.values())], loss)


serve(
    torch.__version__,
    {
        "matmul": lambda s: product((s["n"], s["n"]), (s["n"], s["n"])),
        "matvec": lambda s: product((1, s["n"]), (s["n"], s["n"])),
        "matvec-transposed": lambda s: product((1, s["n"]), (s["n"], s["n"]), True),
        "attention": attention,
        "rms-norm": rms_norm,
        "softmax": softmax,
        "add": add,
        "dispatches": dispatches,
        "mlp": mlp,
        "transformer": transformer,
    },
)
