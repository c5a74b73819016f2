/** `rot-cli train --dry-run`: the plan as a user sees it, and its verdict. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { RunPlan } from "@rot/rot/node";
import { afterAll, expect, test } from "vitest";
import { run } from "../../test/tools/run-cli.ts";
import { judge, type Verdict } from "./dry-run.ts";

const model = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-dry-run-"));
afterAll(() => rmSync(folder, { recursive: true }));

const output = join(folder, "run");
const settings = [
  "data.synthetic_samples=12",
  "head.hidden=16",
  "rendering.font_size=8",
  "validation.max_new_tokens=4",
];
const args = ["train", "--dry-run", "--model", model, "--dataset", "synthetic", "--output", output, "--max_steps", "4"];
args.push(...settings.flatMap((setting) => ["--set", setting]));
const planOf = async (...more: string[]): Promise<RunPlan & { verdict: Verdict }> =>
  JSON.parse((await run(...args, "--json", ...more)).stdout) as RunPlan & { verdict: Verdict };

test("the plan says stages, examples, memory and whether it fits, and writes nothing", async () => {
  const { status, stdout } = await run(...args);
  expect(status).toBe(0);
  for (const line of [
    /^dataset +synthetic: \d+ rows to train on, \d+ to validate on$/m,
    /^stage1, in .*run.stage1$/m,
    /^stage2, in .*run.stage2$/m,
    /^ {2}examples +\d+$/m,
    /^ {2}steps +4 of 8 examples each, 3 of warm-up$/m,
    /^ {2}learns +9 tensors, [\d,]+ numbers$/m,
    /^ {2}memory +[\d.]+ MB at the peak/m,
    /^ {4}activations kept for the way back +[\d.]+ MB$/m,
    /^It fits: [\d.]+ MB are needed/m,
  ]) {
    expect(stdout).toMatch(line);
  }
  expect(existsSync(output)).toBe(false);
});

test("--json prints the same as one object; larger batches need more, and recomputing less", async () => {
  const plan = await planOf("--stage", "1");
  expect(plan).toMatchObject({ output, model, verdict: { fits: true }, stages: [{ stage: "stage1", steps: 4 }] });
  const peakOf = ({ stages }: RunPlan): number => stages[0]?.memory?.peak ?? 0;
  const small = await planOf("--stage", "1", "--batch_size", "2");
  const again = await planOf("--stage", "1", "--set", "training.recompute=true");
  expect(peakOf(small)).toBeLessThan(0.5 * peakOf(plan));
  expect(peakOf(again)).toBeLessThan(peakOf(plan));
});

test("a plan fits where there is room, does not where there is none, and nobody knows where nobody says", async () => {
  const plan = await planOf("--stage", "1");
  const needed = plan.stages[0]?.memory?.allocated as number;
  expect(judge(plan, needed)).toMatchObject({ fits: true, free: needed });
  expect(judge(plan, needed - 1).fits).toBe(false);
  expect(judge(plan, null)).toMatchObject({ fits: null, why: expect.stringContaining("WebGPU does not say") });
  const refused = { ...plan, stages: plan.stages.map((stage) => ({ ...stage, memory: null, refused: "too large" })) };
  expect(judge(refused, Infinity)).toMatchObject({ fits: false, why: "stage1: too large" });
});

test("a head that no buffer holds is exit code 5", async () => {
  const { status, stderr } = await run(...args, "--stage", "1", "--set", `head.hidden=${2 ** 30}`);
  expect(stderr).toMatch(/asks for \d+ bytes; the largest buffer of this adapter has \d+/);
  expect(status).toBe(5);
});

test("the embedded model plans by itself", async () => {
  expect(await run("train", "--dry-run")).toMatchObject({ status: 2, stderr: expect.stringContaining("15 minutes") });
});
