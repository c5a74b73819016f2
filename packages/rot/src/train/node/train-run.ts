/** A training run from its configuration: data, stages one after another, each with a run folder of its own. */
import { join, resolve } from "node:path";
import { mkdir, readFile } from "node:fs/promises";
import { type Device, UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { stringify } from "yaml";
import type { RunConfig } from "../../config/schema.ts";
import type { BadRow } from "../../data/sample.ts";
import type { TargetCache } from "../../data/target-cache/node/target-cache.ts";
import { towerKey } from "../../data/target-cache/key.ts";
import { latestCheckpoint, removeLeftovers, verifyCheckpoint } from "../checkpoint-folder.ts";
import { lockRun } from "../run-lock.ts";
import { type Outcome, runTask, type StepReport } from "../run-task.ts";
import { readRunData } from "./run-data.ts";
import { openSft, openStage1, openStage2, type ReadyStage, type StageSource } from "./stages.ts";

/** What a run tells. */
export interface RunEvents {
  /** Something worth a line: rows left out, a damaged checkpoint, where a stage goes on. */
  note(text: string): void;
  stage(name: string, folder: string, steps: number, from: number): void;
  step(report: StepReport): void;
  validation(step: number, results: Readonly<Record<string, number>>): void;
  checkpoint(path: string): void;
}

/** What {@link trainRun} takes besides the configuration. */
export interface TrainRunOptions {
  readonly device: Device;
  /** The run folder. */
  readonly output: string;
  /** Go on from the latest whole checkpoint in the run folder, or from the one at a path. */
  readonly resume?: boolean | string;
  readonly signal?: AbortSignal;
  readonly events: RunEvents;
  /** Where targets are kept between runs. */
  readonly targets?: TargetCache;
  /** What the manifest says of who made the run: versions, command. */
  readonly manifest?: Readonly<Record<string, unknown>>;
}

/** How each stage ended. */
export interface StageOutcome extends Outcome {
  readonly stage: string;
  readonly folder: string;
  /** The last checkpoint. */
  readonly checkpoint: string | null;
}

/**
 * Trains as a configuration says.
 *
 * @throws {UsageError} when the output is in use, holds another run, or stage 2 has no stage 1 to begin with
 * @throws {DatasetError | BundleError | WeightsError | NumericError | CheckpointError}
 */
export async function trainRun(config: RunConfig, options: TrainRunOptions): Promise<readonly StageOutcome[]> {
  const stages = config.stage === "all" ? (["1", "2"] as const) : [config.stage];
  if (config.stage === "2" && config.stage1_checkpoint === null) {
    throw new UsageError("stage 2 begins with a stage 1: give its run folder or checkpoint with --stage1_checkpoint");
  }
  if (config.loss.uncertainty && config.stage === "2") {
    throw new UsageError("loss.uncertainty weighs the losses of stage 1; in stage 2 set loss.stage2_vision_weight");
  }
  const output = resolve(options.output);
  await mkdir(output, { recursive: true });
  await using _lock = await lockRun(output);
  const data = await readRunData(config);
  report(data.bad, "could not be read and are left out", options.events);
  await writeManifest(output, config, options, data.hash);

  const outcomes: StageOutcome[] = [];
  let stage1 = config.stage1_checkpoint === null ? null : await checkpointAt(config.stage1_checkpoint, options.events);
  for (const stage of stages) {
    const name = stage === "sft" ? "sft" : `stage${stage}`;
    const folder = stages.length > 1 ? join(output, name) : output;
    await mkdir(folder, { recursive: true });
    const source: StageSource = {
      config,
      data,
      device: options.device,
      ...(options.targets && { cache: cacheOf(options.targets) }),
    };
    const open = { "1": openStage1, "2": (from: StageSource) => openStage2(from, stage1 as string), sft: openSft }[
      stage
    ];
    const outcome = await runStage(name, folder, await open(source), config, options);
    outcomes.push(outcome);
    if (outcome.end === "stopped") break;
    if (stage === "1") stage1 = outcome.checkpoint;
  }
  return outcomes;
}

const cacheOf =
  (store: TargetCache): NonNullable<StageSource["cache"]> =>
  async ({ pretrained }) => ({ store, tower: await towerKey(pretrained.weights, pretrained.config.vision) });

async function runStage(
  name: string,
  folder: string,
  ready: ReadyStage,
  config: RunConfig,
  { resume = false, signal, events }: TrainRunOptions,
): Promise<StageOutcome> {
  try {
    const { prepared, task } = ready;
    if (prepared.tooLong.length > 0) {
      const named = prepared.tooLong.slice(0, 10).map((id) => JSON.stringify(id));
      events.note(
        `${prepared.tooLong.length} rows are longer than data.max_length (${config.data.max_length} tokens) and are left out: ${named.join(", ")}${prepared.tooLong.length > 10 ? ", …" : ""}`,
      );
    }
    if (prepared.samples.length === 0) {
      throw new UsageError(
        `no row is left to train on: all are longer than data.max_length (${config.data.max_length})`,
      );
    }
    const checkpoints = join(folder, "checkpoints");
    await removeLeftovers(checkpoints);
    const from = await resumeFrom(checkpoints, resume, events);
    if (!from && (await latestCheckpoint(checkpoints, () => {}))) {
      throw new UsageError(`${folder} holds a run already: go on with it by --resume, or choose another --output`);
    }
    events.stage(name, folder, task.steps, from?.step ?? 0);
    let checkpoint = from?.path ?? null;
    const { every, keep_last: last, keep_every: keepEvery } = config.checkpoint;
    const outcome = await runTask(task, {
      folder,
      ...(from && { resume: from.path }),
      checkpointEvery: every,
      keep: { last, ...(keepEvery !== null && { every: keepEvery }) },
      contents: ready.contents,
      validateEvery: config.validation.every,
      ...(config.validation.patience !== null && { patience: config.validation.patience }),
      onStep: events.step,
      onValidation: events.validation,
      onCheckpoint(path) {
        checkpoint = path;
        events.checkpoint(path);
      },
      ...(signal && { signal }),
    });
    return { ...outcome, stage: name, folder, checkpoint };
  } finally {
    ready.dispose();
  }
}

/** The checkpoint that a stage goes on from. */
async function resumeFrom(checkpoints: string, resume: boolean | string, events: RunEvents) {
  if (resume === false) return null;
  if (resume === true) return latestCheckpoint(checkpoints, (message) => events.note(message));
  // A path is of one stage; the others go on from their latest.
  const path = resolve(resume);
  if (path.startsWith(`${checkpoints}/`)) return verifyCheckpoint(path);
  return latestCheckpoint(checkpoints, (message) => events.note(message));
}

/** The checkpoint that a path means: itself, or the latest of a run folder or of the stage-1 part of one. */
async function checkpointAt(path: string, events: RunEvents): Promise<string> {
  for (const folder of [path, join(path, "stage1")]) {
    const latest = await latestCheckpoint(join(folder, "checkpoints"), (message) => events.note(message));
    if (latest) return latest.path;
  }
  return (await verifyCheckpoint(resolve(path))).path;
}

function report(rows: readonly BadRow[], what: string, events: RunEvents): void {
  if (rows.length === 0) return;
  const named = rows.slice(0, 3).map(({ place, reason }) => `${place}: ${reason}`);
  events.note(`${rows.length} rows ${what}: ${named.join("; ")}${rows.length > 3 ? "; …" : ""}`);
}

/** `config.yaml`, from which the run can be repeated, and `run.json`, which says what it was made of. */
async function writeManifest(
  output: string,
  config: RunConfig,
  { device, resume, manifest }: TrainRunOptions,
  dataHash: string,
): Promise<void> {
  const write = (name: string, text: string) => writeFileAtomically(join(output, name), [Buffer.from(text)]);
  const path = join(output, "run.json");
  if (resume) {
    const before = await readFile(path, "utf8").catch(() => null);
    const known = before === null ? null : (JSON.parse(before) as { readonly data?: string });
    if (known?.data && known.data !== dataHash) {
      throw new UsageError(
        `${output} was trained on other data (${known.data.slice(0, 12)}…, now ${dataHash.slice(0, 12)}…): a resumed run sees the same rows`,
      );
    }
    if (known) return;
  }
  await write("config.yaml", stringify({ ...config, output: null }));
  const { name, kind } = device;
  const text = {
    format: 1,
    begun: new Date().toISOString(),
    adapter: { name, kind },
    seed: config.seed,
    data: dataHash,
    ...manifest,
  };
  await write("run.json", `${JSON.stringify(text, null, 2)}\n`);
}
