"""Lets DeepSpeed train and save, imports what it saved, and lets DeepSpeed open what comes out again.

    python tools/verify-deepspeed.py BASE

BASE is a small Qwen3-VL model. Its decoder takes a few steps under ZeRO stages 1 and 2, with LoRA and in full, on one rank and
on two, in the module tree of the published trainer. What rot-cli imports must be, bit by bit, the f32 parameters and the
moments that DeepSpeed itself reports; DeepSpeed must load the export of the import and report the same. Needs torch,
transformers, peft, deepspeed and safetensors; runs rot-cli from the sources. Prints one line a check; exits with 1 if one fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
NODE = ["node", "--conditions=@rot/source", "--import", "tsx", "packages/cli/src/main.ts"]
STEPS = 3
MOMENTS = ("exp_avg", "exp_avg_sq")
failures = 0


def check(what: str, passed: bool, detail: object = "") -> None:
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'}  {what}{f': {detail}' if detail != '' else ''}", flush=True)


def node(*arguments: object) -> str:
    done = subprocess.run([*NODE, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


class SwiGlu(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (torch.nn.Linear(width, width, bias=False) for _ in range(3))


class Tree(torch.nn.Module):
    """The module tree of the published trainer: the model inside its encoder, two aliases of it, the head."""

    def __init__(self, base: str, mode: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens(["<img_begin>", "<img>", "<img_end>"])
        self.ids = [tokenizer.convert_tokens_to_ids(token) for token in ("<img_begin>", "<img_end>")]
        model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.bfloat16)
        model.requires_grad_(False)
        model.model.language_model.requires_grad_(mode == "full")
        inner = model
        if mode == "lora":
            targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
            model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=targets))
        inner.resize_token_embeddings(len(tokenizer))
        self.vision_encoder = torch.nn.Module()
        self.vision_encoder.mllm_model = model
        self.language_model = inner.model.language_model
        self.llm_lm_head = inner.lm_head
        width, hidden = inner.config.text_config.hidden_size, 12
        self.projection_head = torch.nn.Sequential(
            torch.nn.LayerNorm(width), torch.nn.Linear(width, hidden), SwiGlu(hidden), torch.nn.Linear(hidden, width)
        ).requires_grad_(False)
        self.to(torch.bfloat16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.vision_encoder.mllm_model(input_ids=ids, labels=ids, use_cache=False).loss


def engine_of(base: str, mode: str, zero: int, ranks: int):
    torch.set_num_threads(1)
    tree = Tree(base, mode)
    learns = [parameter for parameter in tree.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    config = {
        "train_batch_size": 2 * ranks,
        "train_micro_batch_size_per_gpu": 2,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": zero},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
    }
    return deepspeed.initialize(model=tree, optimizer=optimizer, lr_scheduler=schedule, config=config)[0]


def key(name: str) -> str:
    """What our training calls a parameter of the tree."""
    name = re.sub(r"^vision_encoder\.mllm_model\.(base_model\.model\.)?", "", name)
    lora = re.sub(r"\.lora_([AB])\.default\.weight$", r".lora_\1.weight", name)
    return f"base_model.model.{lora}" if lora != name else name


def report(engine) -> dict[str, torch.Tensor]:
    """Parameters and moments as DeepSpeed itself gives them."""
    found = {}
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        found[f"value.{key(name)}"] = safe_get_full_fp32_param(parameter)
        for moment in MOMENTS:
            found[f"{moment}.{key(name)}"] = safe_get_full_optimizer_state(parameter, moment)
    return {name: tensor.detach().float().clone().contiguous() for name, tensor in found.items()}


def work(task: str, base: str, mode: str, zero: int, folder: Path) -> None:
    """What runs under DeepSpeed, once a rank."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    engine = engine_of(base, mode, zero, ranks)
    if task == "open":
        path, _ = engine.load_checkpoint(str(folder))
        # What a first step would do: without it parameters do not know their moments.
        engine.optimizer._lazy_init_hp_params_optimizer_state()
        save_file(report(engine), folder / "opened.safetensors")
        (folder / "opened.json").write_text(json.dumps({"path": path, "steps": engine.global_steps}))
        return
    torch.manual_seed(rank)
    for _ in range(STEPS):
        engine.backward(engine(torch.randint(0, 200, (2, 12))))
        engine.step()
    found = report(engine)
    engine.save_checkpoint(str(folder), client_state={"global_step": 7 * STEPS, "best_loss": 1.0})
    if rank == 0:
        save_file(found, folder / "expected.safetensors")
        tree = engine.module
        torch.save(tree.projection_head.state_dict(), folder / "projection_head.bin")
        rows = tree.llm_lm_head.weight.detach()
        tokens = {f"img_{which}_emb": rows[id].clone() for which, id in zip(("begin", "end"), tree.ids)}
        ids = {f"img_{which}_token_id": id for which, id in zip(("begin", "end"), tree.ids)}
        torch.save({**tokens, **ids}, folder / "special_tokens.bin")


def spawn(ranks: int, *arguments: object) -> None:
    command = [sys.executable, __file__, "--work", *map(str, arguments)]
    running = []
    for rank in range(ranks):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29711}
        env = {**os.environ, **{name: str(value) for name, value in place.items()}}
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    texts = [process.communicate()[0] for process in running]
    bad = [text for process, text in zip(running, texts) if process.returncode != 0]
    if bad:
        sys.exit(bad[0][-4000:])


def equal(what: str, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    differ = [name for name in expected if name not in found or not torch.equal(found[name], expected[name])]
    check(what, found.keys() == expected.keys() and not differ, differ[:3] or f"{len(expected)} tensors")


def verify(base: Path, mode: str, zero: int, ranks: int, folder: Path) -> None:
    title = f"{mode}, ZeRO {zero}, {ranks} rank{'s' if ranks > 1 else ''}"
    saved, run, out = folder / "saved", folder / "run", folder / "out"
    saved.mkdir(parents=True)
    spawn(ranks, "train", base, mode, zero, saved)
    expected = load_file(saved / "expected.safetensors")
    result = json.loads(node("convert", "import", "--stage1", saved, "--stage2", saved, "--base", base, "--output", run, "--lora_alpha", 4, "--json"))
    last = result["stages"][-1]
    check(f"{title}: steps of the optimizer", last["step"] == STEPS, last["step"])
    checkpoint = Path(last["checkpoint"])
    values = load_file(checkpoint / "parameters.safetensors")
    found = {f"value.{name}": tensor for name, tensor in values.items()} | load_file(checkpoint / "optimizer.safetensors")
    equal(f"{title}: imported parameters and moments", found, expected)
    node("convert", "export", "--input", run, "--to", "reference", "--output", out)
    spawn(1, "open", base, mode, zero, out)
    opened = json.loads((out / "opened.json").read_text())
    check(f"{title}: DeepSpeed loads the export", opened["path"] is not None and opened["steps"] == STEPS, f"step {opened['steps']}")
    equal(f"{title}: parameters and moments in DeepSpeed again", load_file(out / "opened.safetensors"), expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    base = parser.parse_args().base.resolve()
    print(f"torch {torch.__version__}, deepspeed {deepspeed.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for mode, zero, ranks in (("lora", 2, 2), ("full", 2, 2), ("full", 1, 1)):
            verify(base, mode, zero, ranks, Path(scratch) / f"{mode}{zero}{ranks}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        task, base, mode, zero, folder = sys.argv[2:]
        work(task, base, mode, int(zero), Path(folder))
    else:
        main()
