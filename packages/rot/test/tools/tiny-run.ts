/** Training runs that are over in a second. */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Device } from "@rot/tensor";
import { loadConfig, parseValue } from "../../src/config/load.ts";
import type { RunConfig } from "../../src/config/schema.ts";
import { trainRun, type StageOutcome, type TrainRunOptions } from "../../src/train/node/train-run.ts";
import type { StepReport } from "../../src/train/run-task.ts";

export const tinyModel = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");

/** Settings by key, as text. Short strips keep the roll-outs short. */
const settings: Readonly<Record<string, string>> = {
  model: tinyModel,
  "data.dataset": "synthetic",
  "data.synthetic_samples": "14",
  "data.validation_share": "0.2",
  "rendering.font_size": "8",
  "rendering.thought_markers": "false",
  "head.hidden": "16",
  "training.batch_size": "2",
  "training.gradient_accumulation_steps": "2",
  "validation.every": "3",
  "validation.samples": "2",
  "validation.accuracy_samples": "2",
  "validation.max_new_tokens": "4",
  "optimizer.lr": "1e-3",
  "optimizer.warmup_steps": "2",
  "lora.r": "2",
  "lora.dropout": "0.2",
};

/** What a run is told, but for its folder and device. */
export type TinyOptions = Partial<TrainRunOptions> & { readonly stopAfter?: number };

/** The configuration of such a run. */
export function tinyConfig(more: Readonly<Record<string, string>>): RunConfig {
  const given = Object.entries({ ...settings, ...more });
  const read = ([path, value]: [string, string]) => ({
    path,
    value: path === "stage" ? value : parseValue(value),
    where: path,
  });
  return loadConfig(null, given.map(read)).config;
}

/** Trains in a folder; what it said is in `notes`. */
export async function tinyRun(
  device: Device,
  output: string,
  more: Readonly<Record<string, string>>,
  { stopAfter, ...options }: TinyOptions = {},
): Promise<{ outcomes: readonly StageOutcome[]; notes: string[]; reports: StepReport[] }> {
  const config = tinyConfig(more);
  const stop = new AbortController();
  const notes: string[] = [];
  const reports: StepReport[] = [];
  const outcomes = await trainRun(config, {
    openDevice: () => Promise.resolve(device),
    output,
    signal: stop.signal,
    events: {
      note: (text) => notes.push(text),
      stage: () => {},
      step(report) {
        reports.push(report);
        if (report.step === stopAfter) stop.abort();
      },
      validation: () => {},
      checkpoint: () => {},
    },
    ...options,
  });
  return { outcomes, notes, reports };
}

/** SHA-256 of what a run is after a step: weights, moments, counters, metrics. */
export async function fingerprint(folder: string, step: number): Promise<Record<string, string>> {
  const checkpoint = join("checkpoints", `step-${String(step).padStart(8, "0")}`);
  const files = ["parameters.safetensors", "optimizer.safetensors", "training.json"].map((file) =>
    join(checkpoint, file),
  );
  const hash = async (file: string): Promise<[string, string]> => [
    file,
    createHash("sha256")
      .update(await readFile(join(folder, file)))
      .digest("hex"),
  ];
  return Object.fromEntries(await Promise.all(["metrics.jsonl", ...files].map(hash)));
}

/** A folder that is gone when the test is over. */
export async function temporary(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "rot-train-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
