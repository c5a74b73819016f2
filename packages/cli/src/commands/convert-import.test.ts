import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TensorToWrite, type WritableValue, writeTorchFile } from "@rot/rot/node";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run, spawn } from "../../test/tools/run-cli.ts";

const base = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-cli-import-"));
const stage1 = join(folder, "stage1");
afterAll(() => rmSync(folder, { recursive: true }));

/** What the published trainer leaves after stage 1, with small numbers in it. */
beforeAll(async () => {
  const { text_config: text } = JSON.parse(readFileSync(join(base, "config.json"), "utf8")) as {
    text_config: { hidden_size: number };
  };
  const [D, p] = [text.hidden_size, 4];
  const floats = (...shape: number[]): TensorToWrite => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i) / 4);
    return { dtype: "F32", shape, data: new Uint8Array(values.buffer) };
  };
  const head = new Map<string, WritableValue>([
    ["0.weight", floats(D)],
    ["0.bias", floats(D)],
    ["1.weight", floats(p, D)],
    ["1.bias", floats(p)],
    ...["w1", "w2", "w3"].map((name): [string, WritableValue] => [`2.${name}.weight`, floats(p, p)]),
    ["3.weight", floats(D, p)],
    ["3.bias", floats(D)],
  ]);
  const tokenizer = JSON.parse(readFileSync(join(base, "tokenizer.json"), "utf8")) as {
    added_tokens: { id: number }[];
  };
  const next = Math.max(...tokenizer.added_tokens.map(({ id }) => id)) + 1;
  const special = new Map<string, WritableValue>([
    ["img_begin_emb", floats(D)],
    ["img_end_emb", floats(D)],
    ["img_begin_token_id", next],
    ["img_end_token_id", next + 2],
  ]);
  mkdirSync(stage1);
  await writeFileAtomically(join(stage1, "projection_head.bin"), writeTorchFile(head));
  await writeFileAtomically(join(stage1, "special_tokens.bin"), writeTorchFile(special));
});

test("a published stage 1 becomes a run, which goes out again and is answered from", async () => {
  const output = join(folder, "run");
  const from = spawn("convert", "import", "--stage1", stage1, "--base", base, "--output", output);
  expect(from).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^stage1 at step 0\n.*step-00000000\nhead \d+ → 4; markers/),
  });
  expect(from.stderr).toContain("the row of <img>");
  expect(from.stderr).toContain("AdamW begins with new moments after step 0: there is no optimizer.bin");
  expect(from.stdout).toContain(`train on: rot-cli train --output ${output} --resume --dataset FILE\n`);

  const out = join(folder, "reference");
  const to = await run("convert", "export", "--input", output, "--to", "reference", "--output", out, "--json");
  expect(to).toMatchObject({ status: 0 });
  expect(JSON.parse(to.stdout)).toMatchObject({ step: 0, output: out });
  expect(readdirSync(out).toSorted()).toEqual([
    "README.md",
    "projection_head.bin",
    "special_tokens.bin",
    "training_state.json",
  ]);
  expect(
    Buffer.compare(readFileSync(join(out, "projection_head.bin")), readFileSync(join(stage1, "projection_head.bin"))),
  ).toBe(0);
  for (const control of ["\r", "\u001b"]) expect(to.stderr).not.toContain(control);

  const rows = join(folder, "answers.jsonl");
  const evaluated = await run(
    "evaluate",
    "--checkpoint",
    output,
    "--dataset",
    "synthetic",
    "--max_samples",
    "1",
    "--num_vision_tokens",
    "2",
    "--max_new_tokens",
    "2",
    "--output_file",
    rows,
  );
  expect(evaluated.stderr).not.toContain("Error");
  expect(evaluated.status).toBe(0);
});

test("what was imported is trained on, with the rows and settings that are named then", async () => {
  const output = join(folder, "run");
  const train = (...args: string[]) => run("train", "--output", output, "--resume", "--max_steps", "1", ...args);
  expect(await train()).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("--dataset: say what to train on"),
  });
  const settings =
    "data.synthetic_samples=4 data.validation_share=0.3 rendering.font_size=8 rendering.thought_markers=false";
  const given = settings.split(" ").flatMap((setting) => ["--set", setting]);
  const first = await train("--dataset", "synthetic", "--batch_size", "1", ...given);
  expect(first.stderr).not.toContain("other settings");
  expect(first).toMatchObject({ status: 0, stdout: expect.stringContaining("stage1: finished after 1 step") });
  // From now on it knows its rows.
  expect(await train()).toMatchObject({ status: 0, stdout: expect.stringContaining("was finished already") });
  const other = await train("--set", "data.synthetic_samples=5");
  expect(other).toMatchObject({ status: 2, stderr: expect.stringContaining("was trained on other data") });
});

test("what cannot be is said, with its exit code", async () => {
  const stage2Config = join(folder, "stage2.yaml");
  writeFileSync(stage2Config, "training:\n  stage2_mode: true\nllm_model:\n  use_custom_llm: true\n");
  const output = join(folder, "none");
  const into = ["--base", base, "--output", output];
  const run1 = join(folder, "run");
  const cases: [status: number, message: string, args: string[]][] = [
    [2, "--stage1, --stage2 or both", ["import", ...into]],
    [2, "no projection_head.bin", ["import", "--stage1", folder, ...into]],
    [2, "no config.json", ["import", "--stage1", stage1, "--base", folder, "--output", output]],
    [2, "whole number", ["import", "--stage1", stage1, ...into, "--latents", "-1"]],
    [2, "is there already", ["import", "--stage1", stage1, "--base", base, "--output", run1]],
    [2, "--config", ["import", "--stage1", stage1, ...into, "--config", join(folder, "none.yaml")]],
    [2, "stage 2, and the checkpoint is of stage 1", ["import", "--stage1", stage1, ...into, "--config", stage2Config]],
    [3, "gone.jsonl", ["import", "--stage1", stage1, ...into, "--dataset", join(folder, "gone.jsonl")]],
    [2, "has no adapter", ["export", "--input", run1, "--to", "peft", "--output", output]],
    [3, "--base DIR", ["export", "--input", run1, "--base", folder, "--to", "peft", "--output", output]],
    [3, "there is no", ["export", "--input", join(folder, "gone"), "--to", "peft", "--output", output]],
    [2, "Allowed choices", ["export", "--input", run1, "--to", "gguf", "--output", output]],
  ];
  for (const [status, message, args] of cases) {
    const result = await run("convert", ...args);
    expect(result.stderr, args.join(" ")).toContain(message);
    expect(result.status, args.join(" ")).toBe(status);
  }
  expect(existsSync(output)).toBe(false);
});
