/** A training run from its configuration: data, stages one after another, each with a run folder of its own. */
import { mkdir, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { Device } from "@rot/tensor";
import type { RunConfig } from "../../config/schema.ts";
import type { TargetCache } from "../../data/target-cache/node/target-cache.ts";
import { towerKey } from "../../data/target-cache/key.ts";
import {
  type CheckpointFolder,
  checkpointPath,
  listCheckpoints,
  removeLeftovers,
  replaceLater,
} from "../checkpoint-folder.ts";
import { onDisk } from "../disk-error.ts";
import { lockRun } from "../run-lock.ts";
import { type Outcome, runTask, type StepReport } from "../run-task.ts";
import { checkRoom } from "./checkpoint-room.ts";
import { checkpointToResume, checkRun, checkStage, readNoted, type StageFolder } from "./run-checks.ts";
import { checkManifest, writeConfig, writeManifest } from "./run-manifest.ts";
import { openStage, type ReadyStage, type StageSource } from "./stages.ts";

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
 * @returns  of each stage that was begun; a signal stops the last one, or what comes before the next one's first step
 * @throws {UsageError} when settings contradict each other, the output is in use or holds another run, or there is nothing to
 *   resume
 * @throws {DiskError} when the output cannot be written
 * @throws {DatasetError | BundleError | WeightsError | FontError | NumericError | CheckpointError | DeviceError}
 */
export async function trainRun(given: RunConfig, options: TrainRunOptions): Promise<readonly StageOutcome[]> {
  const { config, output, stages, stage1 } = await checkRun(given, options);
  const { events, resume = false, signal } = options;

  const made = await onDisk(`${output} cannot be made`, () => mkdir(output, { recursive: true }));
  const lock = await onDisk(`${output} cannot be written to`, () => lockRun(output));
  let begun = false;
  const outcomes: StageOutcome[] = [];
  try {
    const data = await readNoted(config, events.note, resume !== false);
    const isChanged = resume !== false && (await checkManifest(output, config, data.hash, events.note));
    const device = await options.openDevice();
    const source: StageSource = {
      config,
      data,
      device,
      ...(options.targets && { cache: cacheOf(options.targets) }),
      ...(signal && { signal }),
    };
    let from = stage1;
    for (const stage of stages) {
      const [first] = resume === false ? [] : await listCheckpoints(stage.checkpoints);
      const begunAt = first !== undefined && { begun: checkpointPath(stage.checkpoints, first) };
      if (first !== undefined && (outcomes.at(-1)?.done ?? 0) > 0) {
        events.note(`${stage.name} goes on with another stage 1 than it began with: that one has just learnt more`);
      }
      const ready = await openStage(stage.name, { ...source, ...begunAt }, from);
      try {
        if (!begun && resume === false) await writeManifest(output, config, device, data.hash, options.manifest);
        begun = true;
        outcomes.push(await runStage(stage, ready, config, options));
        // Only now is it known that the checkpoint fits the new settings.
        if (isChanged) await writeConfig(output, config);
      } finally {
        ready.dispose();
      }
      const { end, checkpoint } = outcomes.at(-1) as StageOutcome;
      if (end === "stopped") break;
      from = checkpoint;
    }
    return outcomes;
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return outcomes;
    throw error;
  } finally {
    await lock.release();
    if (!begun && made !== undefined) await removeEmpty(output, made);
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
  ready: ReadyStage,
  config: RunConfig,
  { resume = false, signal, events }: TrainRunOptions,
): Promise<StageOutcome> {
  const { task, contents } = ready;
  checkStage(ready, config, events.note);
  await onDisk(`${folder} cannot be made`, () => mkdir(folder, { recursive: true }));
  await checkRoom(folder, task, config.checkpoint, events.note);
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
    metricForBestModel: config.validation.metric_for_best_model,
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
}

/** The checkpoint that a stage goes on from; later ones are put aside. */
async function resumeFrom(
  checkpoints: string,
  resume: true | string,
  events: RunEvents,
): Promise<CheckpointFolder | null> {
  const from = await checkpointToResume(checkpoints, resume, events.note);
  if (from) {
    const moved = await onDisk(checkpoints, () => replaceLater(checkpoints, from.step));
    if (moved.length > 0) events.note(`later checkpoints are put aside: ${moved.join(", ")}`);
  }
  return from;
}
