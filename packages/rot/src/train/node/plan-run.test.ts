/** The plan of a run: its memory against what the run itself needs, and that nothing is written. */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Device, openRehearsal } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll, beforeAll, describe, vi } from "vitest";
import { temporary, tinyConfig, tinyRun } from "../../../test/tools/tiny-run.ts";
import { DatasetError } from "../../data/sample.ts";
import { DiskError } from "../disk-error.ts";
import type { MemoryEstimate } from "../rehearse.ts";
import { lockRun } from "../run-lock.ts";
import { planRun, type StagePlan } from "./plan-run.ts";

let folder: Awaited<ReturnType<typeof temporary>>;
beforeAll(async () => {
  folder = await temporary();
});
afterAll(() => folder[Symbol.asyncDispose]());
const at = (...names: string[]): string => join(folder.path, ...names);
const notice = (): void => {};

async function planned(output: string, more: Readonly<Record<string, string>>, resume = false, limits = {}) {
  const plan = await planRun(tinyConfig(more), {
    openRehearsal: () => openRehearsal({ tune: "off", notice, limits }),
    output,
    resume,
    events: { note: () => {} },
  });
  return plan;
}

/** Two steps, of unequal batches. */
const short = { "training.max_steps": "2", "data.synthetic_samples": "30", "optimizer.warmup_steps": "1" };

describe("memory is what the run needs", () => {
  test.for([
    ["stage 1, four steps of two batches", { stage: "1", "head.hidden": "512", "training.max_steps": "4" }],
    ["v1", { stage: "1", model_type: "v1" }],
    ["stage 2, LoRA", { stage: "2", "training.batch_size": "5", "training.gradient_accumulation_steps": "1" }],
    ["stage 2, LoRA, recomputed", { stage: "2", "training.batch_size": "5", "training.recompute": "true" }],
    ["stage 2, full", { stage: "2", "stage2.mode": "full" }],
    ["supervised text", { stage: "sft", "stage2.mode": "lm_head", "validation.max_new_tokens": "40" }],
  ] as const)("%s", { timeout: 120_000 }, async ([name, given], { device }) => {
    const settings: Record<string, string> = { ...short, ...given };
    if (given.stage === "2") settings["stage1_checkpoint"] = await stage1(device);
    const plan = await planned(at(name), settings);
    device.resetPeak();
    await tinyRun(device, at(name), settings);
    const memory = plan.stages[0]?.memory as MemoryEstimate;
    const { peak } = device.memory();
    expect(Math.abs(memory.peak / peak - 1), `planned ${memory.peak}, needed ${peak}`).toBeLessThan(0.1);
    const { training, frozen, parameters, optimizer, gradients, activations, workspace } = memory;
    const parts = [...Object.values(frozen), parameters, optimizer, gradients, activations, workspace];
    expect(Math.min(...parts)).toBeGreaterThan(0);
    expect(parts.reduce((sum, bytes) => sum + bytes)).toBe(training);
    expect(memory.allocated).toBeGreaterThanOrEqual(memory.peak);
  });
});

let begun: Promise<unknown> | undefined;
/** A stage 1 to begin with, made once. */
async function stage1(device: Device): Promise<string> {
  begun ??= tinyRun(device, at("first"), { ...short, stage: "1", "training.max_steps": "1" });
  await begun;
  return at("first");
}

test("both stages are planned before there is a first one, and nothing is written", async () => {
  const { tokens, latents } = (await planned(at("none", "run"), { ...short, stage: "1" })).stages[0] as StagePlan;
  const settings = { ...short, stage: "all", "data.max_length": String(Math.floor(tokens.mean + latents.mean)) };
  await mkdir(at("scratch"));
  vi.stubEnv("TMPDIR", at("scratch"));
  const plan = await planned(at("none", "run"), settings);
  vi.unstubAllEnvs();
  expect(await readdir(folder.path)).not.toContain("none");
  expect(await readdir(at("scratch"))).toEqual([]);
  expect(plan.rows.train + plan.rows.validation).toBe(30);
  const [first, second] = plan.stages as [StagePlan, StagePlan];
  expect(first).toMatchObject({ stage: "stage1", steps: 2, done: 0, warmup: 1, batch: { size: 2, accumulation: 2 } });
  expect(first.examples.tooLong.length).toBeGreaterThan(0);
  expect(first.examples.kept + first.examples.tooLong.length).toBe(plan.rows.train);
  expect(first.tokens.longest + first.latents.longest).toBeGreaterThan(first.tokens.mean + first.latents.mean);
  expect(second.stage).toBe("stage2");
  expect(second.learns.tensors).toBeGreaterThan(0);
  // The head of stage 1 is frozen in stage 2.
  expect(second.frozen.numbers).toBe(first.frozen.numbers + first.learns.numbers);
});

test("a run that is gone on with is planned from where it is, and stays as it is", async ({ device }) => {
  const run = at("stopped");
  const settings = { ...short, stage: "1", "training.max_steps": "3" };
  await tinyRun(device, run, settings, { stopAfter: 2 });
  const before = await contentsOf(run);
  const plan = await planned(run, settings, true);
  expect(plan.stages[0]).toMatchObject({ steps: 3, done: 2 });
  expect(await contentsOf(run)).toEqual(before);
  await expect(planned(run, settings)).rejects.toThrow(/holds a run already/);
  // An imported one does not know its rows yet, and does not learn them now.
  const { data: _, ...manifest } = JSON.parse(await readFile(join(run, "run.json"), "utf8")) as Record<string, unknown>;
  const imported = JSON.stringify({ ...manifest, imported: {} });
  await writeFile(join(run, "run.json"), imported);
  expect((await planned(run, settings, true)).stages[0]?.done).toBe(2);
  expect(await readFile(join(run, "run.json"), "utf8")).toBe(imported);
});

test("what training refuses, the plan refuses", async () => {
  const settings = { ...short, stage: "1" };
  await writeFile(at("file"), "");
  await expect(planned(at("file", "run"), settings)).rejects.toThrow(DiskError);
  await expect(planned(at("x"), { ...settings, "data.max_length": "3" })).rejects.toThrow(/no row is left to train on/);
  await expect(planned(at("x"), { ...settings, "data.dataset": at("gone.jsonl") })).rejects.toThrow(DatasetError);
  const locked = at("locked");
  await mkdir(locked);
  await using _ = await lockRun(locked);
  await expect(planned(locked, settings)).rejects.toThrow(/is being trained in by process/);
});

test("a tensor larger than the adapter's buffers is said, not thrown", async () => {
  const plan = await planned(at("x"), { ...short, stage: "1" }, false, { maxBufferSize: 2 ** 18 });
  expect(plan.stages[0]?.memory).toBeNull();
  expect(plan.stages[0]?.refused).toMatch(/the largest buffer of this adapter has 262144/);
});

/** Every file under a folder, and when it was changed. */
async function contentsOf(path: string): Promise<Record<string, number>> {
  const files = (await readdir(path, { recursive: true })).toSorted();
  return Object.fromEntries(
    await Promise.all(files.map(async (f) => [f, (await stat(join(path, f))).mtimeMs] as const)),
  );
}
