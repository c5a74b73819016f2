import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TensorToWrite, type WritableValue, writeTorchFile } from "@rot/rot/node";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exitCodeOf } from "../exit-codes.ts";
import { type Output, program } from "../program.ts";

const main = resolve(import.meta.dirname, "../main.ts");
const base = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-cli-import-"));
const stage1 = join(folder, "stage1");
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the command line in this process. */
async function run(...args: readonly string[]) {
  let [stdout, stderr] = ["", ""];
  const output: Output = {
    out: (text) => void (stdout += text),
    err: (text) => void (stderr += text),
    terminal: false,
  };
  try {
    await program(output).parseAsync(args, { from: "user" });
    return { status: 0, stdout, stderr };
  } catch (error) {
    return { status: exitCodeOf(error), stdout, stderr: stderr + (error as Error).message };
  }
}

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
  const from = spawnSync(
    process.execPath,
    [
      "--conditions=@rot/source",
      "--import",
      "tsx",
      main,
      "convert",
      "import",
      "--stage1",
      stage1,
      "--base",
      base,
      "--output",
      output,
    ],
    { encoding: "utf8" },
  );
  expect(from).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^stage1 at step 0\n.*step-00000000\nhead \d+ → 4; markers/),
  });
  expect(from.stderr).toContain("the row of <img>");

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

test("what cannot be is said, with its exit code", async () => {
  const output = join(folder, "none");
  const into = ["--base", base, "--output", output];
  const run1 = join(folder, "run");
  const cases: [status: number, message: string, args: string[]][] = [
    [2, "--stage1, --stage2 or both", ["import", ...into]],
    [2, "no projection_head.bin", ["import", "--stage1", folder, ...into]],
    [2, "no config.json", ["import", "--stage1", stage1, "--base", folder, "--output", output]],
    [2, "whole number", ["import", "--stage1", stage1, ...into, "--latents", "-1"]],
    [2, "is there already", ["import", "--stage1", stage1, "--base", base, "--output", run1]],
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
