#!/usr/bin/env python3
"""Opens a .pt file with torch.load(weights_only=True) and compares it, bit by bit, with a folder of safetensors files.

    python tools/verify-with-torch.py CHECKPOINT.pt FOLDER [--clean_keys]

Needs torch and safetensors. Names that conversion_metadata.json records as tied must share memory in the checkpoint.
Exits with 0 when names, dtypes, shapes and bits are equal, and with 1 when they are not.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

WRAPPERS = ("module", "model_state_dict", "model", "state_dict")
PREFIXES = ("module.", "model.", "vision_encoder.mllm_model.")


def clean(name):
    """Without the first of the wrappers' prefixes."""
    return next((name[len(prefix) :] for prefix in PREFIXES if name.startswith(prefix)), name)


def state_dict(path):
    value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    inner = next((value[key] for key in WRAPPERS if isinstance(value.get(key), dict)), value)
    return {name: tensor for name, tensor in inner.items() if isinstance(tensor, torch.Tensor)}


def folder_tensors(folder):
    """Each name with a function that loads its tensor, and the recorded aliases."""
    loaders = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            loaders.update({name: (lambda n=name, p=path: safe_open(p, framework="pt").get_tensor(n)) for name in file.keys()})
    record = folder / "conversion_metadata.json"
    aliases = json.loads(record.read_text()).get("aliases", {}) if record.exists() else {}
    for alias, name in aliases.items():
        loaders[alias] = loaders[name]
    return loaders, aliases


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clean_keys", action="store_true", help="cut the wrappers' prefixes from the checkpoint's names")
    flags = parser.parse_args()
    checkpoint = state_dict(flags.checkpoint)
    if flags.clean_keys:
        checkpoint = {clean(name): tensor for name, tensor in checkpoint.items()}
    loaders, aliases = folder_tensors(flags.folder)
    problems = [f"only in the checkpoint: {name}" for name in checkpoint.keys() - loaders.keys()]
    problems += [f"only in the folder: {name}" for name in loaders.keys() - checkpoint.keys()]
    for name in sorted(checkpoint.keys() & loaders.keys()):
        ours, theirs = checkpoint[name], loaders[name]()
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape or not torch.equal(bits(ours), bits(theirs)):
            problems.append(f"differs: {name}")
    for alias, name in aliases.items():
        if alias in checkpoint and name in checkpoint and checkpoint[alias].data_ptr() != checkpoint[name].data_ptr():
            problems.append(f"not tied: {alias} and {name}")
    print("\n".join(problems) or f"equal: {len(checkpoint)} tensors, {len(aliases)} of them tied (torch {torch.__version__})")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
