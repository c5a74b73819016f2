/** A training run from its configuration: data, stages one after another, each with a run folder of its own. */
import { mkdir, rmdir, stat, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Device, UsageError } from "@rot/tensor";
import type { RunConfig } from "../../config/schema.ts";
import type { TargetCache } from "../../data/target-cache/node/target-cache.ts";
import { towerKey } from "../../data/target-cache/key.ts";
import {
  CheckpointError,
  type CheckpointFolder,
  checkpointPath,
  latestCheckpoint,
  listCheckpoints,
  removeLeftovers,
  replaceLater,
  verifyCheckpoint,
} from "../checkpoint-folder.ts";
import { DiskError, onDisk } from "../disk-error.ts";
import { lockRun } from "../run-lock.ts";
import { type Outcome, runTask, type StepReport } from "../run-task.ts";
import { readRunData } from "./run-data.ts";
import { checkManifest, runFiles, writeManifest } from "./run-manifest.ts";
import { openSft, openStage1, openStage2, type ReadyStage, type StageSource } from "./stages.ts";

/** What a run tells. */
export interface RunEvents {
  /** Something worth a line: rows left out, a damaged checkpoint, what changed since the run began. */
  readonly note: (text: string) => void;
  readonly stage: (name: string, folder: string, steps: number, from: number) => void;
  /** Waited for. */
  readonly step: (report: StepReport) => unknown;
  readonly validation: (step: number, results: Readonly<Record<string, number>>) => void;
  readonly checkpoint: (path: string) => void;
}

/** What {@link trainRun} takes besides the configuration. */
export interface TrainRunOptions {
  /** Asked for when all that needs no device was found to be right. The caller's to destroy. */
  readonly openDevice: () => Promise<Device>;
  /** The run folder. */
  readonly output: string;
  /** Go on from the latest whole checkpoint in the run folder, or from the one of it at a path. */
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
  /** The last checkpoint; null where it was stopped before there was one. */
  readonly checkpoint: string | null;
}

/**
 * Trains as a configuration says.
 *
 * @returns  of each stage that was begun; the last one says whether the signal stopped it
 * @throws {UsageError} when settings contradict each other, the output is in use or holds another run, or there is nothing to
 *   resume
 * @throws {DiskError} when the output cannot be written
 * @throws {DatasetError | BundleError | WeightsError | FontError | NumericError | CheckpointError | DeviceError}
 */
export async function trainRun(given: RunConfig, options: TrainRunOptions): Promise<readonly StageOutcome[]> {
  check(given);
  const config = await withAbsolutePaths(given);
  const output = resolve(options.output);
  const { events, resume = false, signal } = options;
  const stages = stagesOf(config, output);
  const stage1 = config.stage1_checkpoint === null ? null : await checkpointAt(config.stage1_checkpoint, events);
  if (resume === false) await refuseSecondRun(stages);
  else await checkResume(output, resume, stages);

  const made = await onDisk(`${output} cannot be made`, () => mkdir(output, { recursive: true }));
  const lock = await onDisk(`${output} cannot be written to`, () => lockRun(output));
  let begun = false;
  try {
    const data = await readRunData(config);
    if (data.bad.length > 0) {
      const named = data.bad.slice(0, 3).map(({ place, reason }) => `${place}: ${reason}`);
      events.note(
        `${data.bad.length} rows cannot be read and are left out: ${named.join("; ")}${data.bad.length > 3 ? "; …" : ""}`,
      );
    }
    if (resume !== false) await checkManifest(output, config, data.hash, events.note);
    const device = await options.openDevice();
    const source: StageSource = {
      config,
      data,
      device,
      ...(options.targets && { cache: cacheOf(options.targets) }),
      ...(signal && { signal }),
    };
    const outcomes: StageOutcome[] = [];
    let from = stage1;
    for (const stage of stages) {
      const [first] = resume === false ? [] : await listCheckpoints(stage.checkpoints);
      const ready = await {
        stage1: (s: StageSource) =>
          openStage1({ ...s, ...(first !== undefined && { begun: checkpointPath(stage.checkpoints, first) }) }),
        stage2: (s: StageSource) => openStage2(s, from as string),
        sft: openSft,
      }[stage.name](source);
      try {
        if (!begun && resume === false) await writeManifest(output, config, device, data.hash, options.manifest);
        begun = true;
        outcomes.push(await runStage(stage, ready, config, options));
      } finally {
        ready.dispose();
      }
      const { end, checkpoint } = outcomes.at(-1) as StageOutcome;
      if (end === "stopped") break;
      from = checkpoint;
    }
    return outcomes;
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return [];
    throw error;
  } finally {
    await lock.release();
    if (!begun && made !== undefined) await removeEmpty(output, made);
  }
}

/** A stage of a run, and where it is. */
interface StageFolder {
  readonly name: "stage1" | "stage2" | "sft";
  readonly folder: string;
  readonly checkpoints: string;
}

function stagesOf({ stage, model_type: type }: RunConfig, output: string): StageFolder[] {
  const all = type === "v1" ? (["stage1"] as const) : (["stage1", "stage2"] as const);
  const names = ({ "1": ["stage1"], "2": ["stage2"], sft: ["sft"], all } as const)[stage];
  return names.map((name) => {
    const folder = names.length > 1 ? join(output, name) : output;
    return { name, folder, checkpoints: join(folder, "checkpoints") };
  });
}

/** What contradicts itself. */
function check(config: RunConfig): void {
  if (config.stage === "2" && config.stage1_checkpoint === null) {
    throw new UsageError("stage 2 begins with a stage 1: give its run folder or checkpoint with --stage1_checkpoint");
  }
  if (config.stage !== "2" && config.stage1_checkpoint !== null) {
    throw new UsageError(`--stage1_checkpoint is for --stage 2, and this is --stage ${config.stage}`);
  }
  const hasStage1 = config.stage === "1" || config.stage === "all";
  if (config.loss.uncertainty && !hasStage1) {
    throw new UsageError("loss.uncertainty weighs the losses of stage 1; in stage 2 set loss.stage2_vision_weight");
  }
  if (config.model_type === "v1" && !hasStage1) {
    throw new UsageError(`model_type v1 has one stage, and this is --stage ${config.stage}: give --stage 1`);
  }
  const { train, lr } = config.markers;
  if (train && !hasStage1) {
    throw new UsageError(`markers.train: markers learn in stage 1, and this is --stage ${config.stage}`);
  }
  if (train && config.model_type === "v1") {
    throw new UsageError("markers.train: of model_type v1 the whole token tables learn, markers too; leave it out");
  }
  if (lr !== null && !train) throw new UsageError("markers.lr has no effect without markers.train=true");
  const { metric_for_best_model: metric, accuracy_samples: answered } = config.validation;
  if (metric === "accuracy" && answered === 0) {
    throw new UsageError(
      "validation.metric_for_best_model is accuracy, and validation.accuracy_samples is 0: raise it, or choose loss",
    );
  }
}

/** The same configuration, from wherever it is read again. */
async function withAbsolutePaths(config: RunConfig): Promise<RunConfig> {
  const absolute = async <P extends string | null>(path: P): Promise<P> =>
    path !== null && (await isThere(path)) ? (resolve(path) as P) : path;
  return {
    ...config,
    output: null,
    model: await absolute(config.model),
    stage1_checkpoint: await absolute(config.stage1_checkpoint),
    data: { ...config.data, dataset: await absolute(config.data.dataset) },
    rendering: { ...config.rendering, font: await absolute(config.rendering.font) },
  };
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function refuseSecondRun(stages: readonly StageFolder[]): Promise<void> {
  for (const { folder, checkpoints } of stages) {
    const found = await onDisk(`${folder} cannot be a run folder`, () => listCheckpoints(checkpoints));
    if (found.length === 0) continue;
    throw new UsageError(`${folder} holds a run already: go on with it by --resume, or choose another --output`);
  }
}

async function checkResume(output: string, resume: true | string, stages: readonly StageFolder[]): Promise<void> {
  if (!(await isThere(join(output, runFiles.manifest)))) {
    throw new UsageError(`${output} holds no run to go on with (no ${runFiles.manifest}): begin one without --resume`);
  }
  if (resume === true) return;
  const path = resolve(resume);
  if (!(await isThere(path))) throw new UsageError(`--resume: there is no ${path}`);
  const known = [output, ...stages.flatMap(({ folder, checkpoints }) => [folder, checkpoints])];
  if (!known.includes(path) && !known.includes(dirname(path))) {
    throw new UsageError(
      `--resume: ${path} is no checkpoint of the run in ${output}; leave --output out to go on in its own`,
    );
  }
}

/** Removes folders that were made for nothing. */
async function removeEmpty(folder: string, first: string): Promise<void> {
  for (let each = folder; each.startsWith(first); each = dirname(each)) {
    try {
      await rmdir(each);
    } catch {
      return; // somebody put something into it
    }
  }
}

const cacheOf =
  (store: TargetCache): NonNullable<StageSource["cache"]> =>
  async ({ pretrained }) => ({ store, tower: await towerKey(pretrained.weights, pretrained.config.vision) });

async function runStage(
  { name, folder, checkpoints }: StageFolder,
  { prepared, task, contents }: ReadyStage,
  config: RunConfig,
  { resume = false, signal, events }: TrainRunOptions,
): Promise<StageOutcome> {
  const { tooLong, samples } = prepared;
  if (samples.length === 0) {
    throw new UsageError(
      `no row is left to train on: all ${tooLong.length} are longer than data.max_length (${config.data.max_length} tokens)`,
    );
  }
  if (tooLong.length > 0) {
    const named = tooLong.slice(0, 10).map((id) => JSON.stringify(id));
    events.note(
      `${tooLong.length} rows are longer than data.max_length (${config.data.max_length} tokens) and are left out: ${named.join(", ")}${tooLong.length > 10 ? ", …" : ""}`,
    );
  }
  const { patience, metric_for_best_model: metric } = config.validation;
  if (!task.validate && (patience !== null || metric === "accuracy")) {
    throw new UsageError(
      `validation.${patience === null ? "metric_for_best_model" : "patience"}: there are no rows to validate on; raise data.validation_share (${config.data.validation_share})`,
    );
  }
  await onDisk(`${folder} cannot be made`, () => mkdir(folder, { recursive: true }));
  await checkRoom(folder, task.parameters.values(), config.checkpoint.keep_last, events);
  await removeLeftovers(checkpoints);
  const from = resume === false ? null : await resumeFrom(checkpoints, resume, events);
  if (from && from.step >= task.steps) {
    events.note(
      `${name} is already finished: step ${from.step} of ${task.steps}, in ${folder}; for more give a higher --max_steps or --num_epochs`,
    );
  } else events.stage(name, folder, task.steps, from?.step ?? 0);
  let checkpoint = from?.path ?? null;
  const { every, keep_last: last, keep_every: keepEvery } = config.checkpoint;
  const outcome = await runTask(task, {
    folder,
    ...(from && { resume: from.path }),
    checkpointEvery: every,
    keep: { last, ...(keepEvery !== null && { every: keepEvery }) },
    contents,
    validateEvery: config.validation.every,
    metricForBestModel: metric,
    ...(patience !== null && { patience }),
    onStep: events.step,
    onValidation: events.validation,
    onCheckpoint(path) {
      checkpoint = path;
      events.checkpoint(path);
    },
    ...(signal && { signal }),
  });
  return { ...outcome, stage: name, folder, checkpoint };
}

/** Bytes in a checkpoint for each number that learns: itself, two moments, and its copy in the model. */
const CHECKPOINT_BYTES = 16;

/** Whether a disk has room for the checkpoints that are kept, before hours of work are lost on it. */
async function checkRoom(
  folder: string,
  parameters: Iterable<{ readonly size: number }>,
  keepLast: number,
  events: RunEvents,
): Promise<void> {
  const one = CHECKPOINT_BYTES * [...parameters].reduce((sum, { size }) => sum + size, 0);
  const { bavail, bsize } = await onDisk(folder, () => statfs(folder));
  const free = bavail * bsize;
  const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
  if (free < one) {
    throw new DiskError(
      `${folder}: a checkpoint needs about ${megabytes(one)}, and ${megabytes(free)} are free: make room, or choose another --output`,
    );
  }
  // One more than are kept: the oldest goes when the newest is whole. And the best.
  const all = (keepLast + 2) * one;
  if (free < all) {
    events.note(
      `${folder}: ${keepLast + 2} checkpoints need about ${megabytes(all)}, and ${megabytes(free)} are free; lower checkpoint.keep_last`,
    );
  }
}

/** The checkpoint that a stage goes on from; later ones are put aside. */
async function resumeFrom(
  checkpoints: string,
  resume: true | string,
  events: RunEvents,
): Promise<CheckpointFolder | null> {
  const path = resume === true ? null : resolve(resume);
  const from =
    path !== null && dirname(path) === checkpoints
      ? await verifyCheckpoint(path)
      : await latestCheckpoint(checkpoints, events.note);
  if (from) {
    const moved = await onDisk(checkpoints, () => replaceLater(checkpoints, from.step));
    if (moved.length > 0) events.note(`later checkpoints are put aside: ${moved.join(", ")}`);
  } else if ((await listCheckpoints(checkpoints)).length > 0) {
    throw new CheckpointError(`${checkpoints}: no checkpoint is whole; begin again with another --output`);
  }
  return from;
}

/** The checkpoint that a path means: itself, or the latest of a run folder or of the stage-1 part of one. */
async function checkpointAt(path: string, events: RunEvents): Promise<string> {
  if (!(await isThere(path))) throw new CheckpointError(`--stage1_checkpoint: there is no ${path}`);
  for (const folder of [path, join(path, "stage1")]) {
    const latest = await latestCheckpoint(join(folder, "checkpoints"), events.note);
    if (latest) return latest.path;
  }
  if (await isThere(join(path, "manifest.json"))) return (await verifyCheckpoint(resolve(path))).path;
  throw new CheckpointError(
    `--stage1_checkpoint: ${path} is neither a run folder (no checkpoints/) nor a checkpoint (no manifest.json)`,
  );
}
