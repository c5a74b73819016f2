"""Opens exports of a run with torch, PEFT and transformers, and compares what they answer with what this project answers.

    python tools/verify-exports.py RUN BASE

RUN is a run folder or checkpoint of `rot-cli train` with stage 2, BASE the model it was trained on, in f32: merging rounds
what is stored in 16 bits. Needs torch, transformers, peft and safetensors; runs rot-cli from the sources. Prints one line a check; exits with 1 if one fails.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
NODE = ["node", "--conditions=@rot/source", "--import", "tsx"]
TOLERANCE = 1e-5
failures = 0


def check(what: str, passed: bool, detail: object = "") -> None:
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'}  {what}{f': {detail}' if detail != '' else ''}")


def close(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Passes when no value is farther off than the tolerance times the largest."""
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    check(what, found.shape == expected.shape and error <= TOLERANCE, f"largest difference {error:.1e} of the largest value")


def node(*arguments: object) -> str:
    done = subprocess.run([*NODE, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def export(run: Path, to: str, output: Path) -> Path:
    node("packages/cli/src/main.ts", "convert", "export", "--input", run, "--to", to, "--output", output)
    return output


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids.long()[None], use_cache=False).logits[0].float()


def clean(name: str) -> str:
    """The first prefix that fits is cut, once, as the published loader does."""
    for prefix in ("module.", "model.", "vision_encoder.mllm_model."):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


class SwiGlu(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (torch.nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w3(torch.nn.functional.silu(self.w1(x)) * self.w2(x))


def verify_head(file: Path, ours: dict[str, torch.Tensor]) -> None:
    state = torch.load(file, weights_only=True)
    hidden, width = state["1.weight"].shape
    head = torch.nn.Sequential(
        torch.nn.LayerNorm(width, eps=1e-6), torch.nn.Linear(width, hidden), SwiGlu(hidden), torch.nn.Linear(hidden, width)
    )
    head.load_state_dict(state, strict=True)
    with torch.no_grad():
        close("reference: latents of projection_head.bin", head(ours["marked.hidden"]), ours["marked.latents"])


def verify_reference(folder: Path, base: torch.nn.Module, ours: dict[str, torch.Tensor], bundle: Path) -> None:
    special = torch.load(folder / "special_tokens.bin", weights_only=True)
    begin, end = special["img_begin_token_id"], special["img_end_token_id"]
    check("reference: special_tokens.bin", [begin, end] == ours["marked.ids"][-3:-1].tolist(), f"tokens {begin} and {end}")
    verify_head(folder / "projection_head.bin", ours)

    tag = (folder / "latest").read_text()
    state = torch.load(folder / tag / "mp_rank_00_model_states.pt", weights_only=True)["module"]
    storages = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    check("reference: aliases share their storage", len(storages) < len(state), f"{len(state)} names, {len(storages)} storages")

    model = copy.deepcopy(base)
    rows = state["llm_lm_head.weight"].shape[0]
    model.resize_token_embeddings(rows)
    config = bundle / "adapter_config.json"
    if config.exists():
        lora = json.loads(config.read_text())
        model = get_peft_model(model, LoraConfig(r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=lora["target_modules"]))
    own = {clean(name): tensor for name, tensor in state.items()}
    wanted = {name: own.pop(name) for name in list(own) if name in model.state_dict()}
    aliases = [name for name in own if not name.startswith(("language_model.", "llm_lm_head.", "projection_head."))]
    missing = set(model.state_dict()) - set(wanted)
    check("reference: no missing and no unexpected keys", not missing and not aliases, f"{len(wanted)} keys")
    model.load_state_dict(wanted, strict=True)
    close("reference: logits", logits(model.eval(), ours["marked.ids"]), ours["marked.logits"][:, :rows])


def verify_peft(folder: Path, base: torch.nn.Module, ours: dict[str, torch.Tensor]) -> None:
    model = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    file = load_file(folder / "adapter_model.safetensors")
    held = {name.replace(".default", ""): tensor for name, tensor in model.state_dict().items() if ".lora_" in name}
    equal = held.keys() == file.keys() and all(torch.equal(held[name], file[name]) for name in file)
    check("peft: no missing and no unexpected keys", equal, f"{len(file)} keys")
    # The base knows no markers: their columns are rows that only the whole model has.
    first = int(ours["marked.ids"][-3])
    close("peft: logits", logits(model, ours["text.ids"])[:, :first], ours["text.logits"][:, :first])


def verify_huggingface(folder: Path, ours: dict[str, torch.Tensor]) -> None:
    model, info = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    problems = {key: value for key, value in info.items() if value and not (key == "missing_keys" and value == {"lm_head.weight"})}
    check("huggingface: no missing and no unexpected keys", not problems, problems or f"{len(model.state_dict())} keys")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.encode(token, add_special_tokens=False) for token in ("<img_begin>", "<img_end>")]
    check("huggingface: markers are tokens", ids == [[int(id)] for id in ours["marked.ids"][-3:-1]], ids)
    close("huggingface: logits", logits(model.eval(), ours["marked.ids"]), ours["marked.logits"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("base", type=Path)
    run, base = (path.resolve() for path in vars(parser.parse_args()).values())
    torch.set_num_threads(1)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        node("tools/write-logits.ts", run, folder / "ours.safetensors", base)
        ours = load_file(folder / "ours.safetensors")
        reference = export(run, "reference", folder / "reference")
        result = node("packages/cli/src/main.ts", "convert", "export", "--input", run, "--to", "huggingface", "--output", folder / "hf", "--json")
        bundle = Path(json.loads(result)["checkpoint"])
        verify_reference(reference, model, ours, bundle)
        if (bundle / "adapter_config.json").exists():
            verify_peft(export(run, "peft", folder / "peft"), model, ours)
        verify_huggingface(folder / "hf", ours)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
