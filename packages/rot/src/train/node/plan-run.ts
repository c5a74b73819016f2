/** What a run would do, and whether it fits: all that training looks at before its first step, and no step. Nothing is written to its output. */
import { constants } from "node:fs";
import { access, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { OutOfMemoryError, type Rehearsal } from "@rot/tensor";
import type { RunConfig } from "../../config/schema.ts";
import type { Sample } from "../../data/sample.ts";
import { checkpointPath, listCheckpoints, writeCheckpoint } from "../checkpoint-folder.ts";
import { DiskError, onDisk } from "../disk-error.ts";
import { type MemoryEstimate, rehearse, stepsToRehearse } from "../rehearse.ts";
import { refuseLocked } from "../run-lock.ts";
import type { TrainingTask } from "../task.ts";
import { type CheckpointRoom, checkRoom } from "./checkpoint-room.ts";
import { checkpointToResume, checkRun, checkStage, type Note, readNoted, type StageFolder } from "./run-checks.ts";
import { checkManifest } from "./run-manifest.ts";
import { openStage, type ReadyStage, type StageName } from "./stages.ts";

/** What {@link planRun} takes besides the configuration. */
export interface PlanRunOptions {
  /** Asked for each stage, when all that needs no device was found to be right. */
  readonly openRehearsal: () => Promise<Rehearsal>;
  readonly output: string;
  readonly resume?: boolean | string;
  readonly events: { readonly note: Note };
}

/** A number of things, and how long they are. */
export interface Lengths {
  readonly longest: number;
  readonly mean: number;
}

/** Tensors, and the numbers in them. */
export interface Counted {
  readonly tensors: number;
  readonly numbers: number;
}

/** What a stage would do. */
export interface StagePlan {
  readonly stage: StageName;
  readonly folder: string;
  /** Optimizer steps in all, and those that are done. */
  readonly steps: number;
  readonly done: number;
  /** Steps until the learning rate is at its peak. */
  readonly warmup: number;
  readonly batch: { readonly size: number; readonly accumulation: number };
  readonly examples: { readonly kept: number; readonly tooLong: readonly Sample["id"][]; readonly maxLength: number };
  /** Of question and answer together, over the examples that are kept. */
  readonly tokens: Lengths;
  readonly latents: Lengths;
  readonly learns: Counted;
  readonly frozen: Counted;
  readonly checkpoints: CheckpointRoom;
  /** Null where it cannot even be tried; {@link refused} says why. */
  readonly memory: MemoryEstimate | null;
  readonly refused: string | null;
}

/** What a run would do. */
export interface RunPlan {
  readonly output: string;
  readonly model: string;
  readonly dataset: string;
  readonly rows: { readonly train: number; readonly validation: number; readonly unreadable: readonly string[] };
  readonly adapter: { readonly name: string; readonly kind: string; readonly maxBufferSize: number };
  readonly stages: readonly StagePlan[];
}

/**
 * Plans a run as `trainRun` would do it. Weights are not read.
 *
 * @throws as `trainRun` before its first step
 */
export async function planRun(given: RunConfig, options: PlanRunOptions): Promise<RunPlan> {
  const { config, output, stages, stage1 } = await checkRun(given, options);
  const { events, resume = false } = options;
  const disk = await folderFor(output);
  await refuseLocked(output);
  const data = await readNoted(config, events.note, resume !== false);
  if (resume !== false) await checkManifest(output, config, data.hash, events.note, false);
  const scratch = stages.length > 1 ? await mkdtemp(join(tmpdir(), "rot-plan-")) : null;
  const plans: StagePlan[] = [];
  let adapter: RunPlan["adapter"] | undefined;
  let from = stage1;
  try {
    for (const stage of stages) {
      using device = await options.openRehearsal();
      adapter = { name: device.name, kind: device.kind, maxBufferSize: device.limits.maxBufferSize };
      const [first] = resume === false ? [] : await listCheckpoints(stage.checkpoints);
      const begun = first !== undefined && { begun: checkpointPath(stage.checkpoints, first) };
      const ready = await openStage(stage.name, { config, data, device, ...begun }, from);
      try {
        checkStage(ready, config, events.note);
        const latest = resume === false ? null : await checkpointToResume(stage.checkpoints, resume, events.note);
        const checkpoints = await checkRoom(stage.folder, ready.task, config.checkpoint, events.note, disk);
        plans.push(await planStage(stage, ready, { device, config, done: latest?.step ?? 0, checkpoints }));
        // The next stage begins with a checkpoint of this one, of which only the shapes matter here.
        if (latest) from = latest.path;
        else if (scratch !== null && stage !== stages.at(-1)) {
          from = await writeCheckpoint(scratch, 0, ready.contents());
        }
      } finally {
        ready.dispose();
      }
    }
  } finally {
    if (scratch !== null) await rm(scratch, { recursive: true, force: true });
  }
  return {
    output,
    model: config.model,
    dataset: config.data.dataset,
    rows: {
      train: data.train.length,
      validation: data.validation.length,
      unreadable: data.bad.map(({ place, reason }) => `${place}: ${reason}`),
    },
    adapter: adapter as RunPlan["adapter"],
    stages: plans,
  };
}

interface Planning {
  readonly device: Rehearsal;
  readonly config: RunConfig;
  readonly done: number;
  readonly checkpoints: CheckpointRoom;
}

async function planStage(
  { name, folder }: StageFolder,
  { task, prepared, weights }: ReadyStage,
  { device, config, done, checkpoints }: Planning,
): Promise<StagePlan> {
  const { batch_size: size, gradient_accumulation_steps: accumulation } = config.training;
  const learns = new Set(task.parameters.values());
  let memory: MemoryEstimate | null = null;
  let refused: string | null = null;
  try {
    const steps = stepsToRehearse(prepared, task, size, done);
    memory = await rehearse(device, { task, weights }, steps);
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    refused = error.message;
  }
  return {
    stage: name,
    folder,
    steps: task.steps,
    done,
    warmup: warmupOf(task),
    batch: { size, accumulation },
    examples: { kept: prepared.samples.length, tooLong: prepared.tooLong, maxLength: config.data.max_length },
    tokens: lengths(prepared.samples.map(({ question, answer }) => question.length + answer.length)),
    latents: lengths(prepared.counts),
    learns: counted(learns),
    frozen: counted([...new Set(weights.values())].filter((tensor) => !learns.has(tensor))),
    checkpoints,
    memory,
    refused,
  };
}

/** Steps while which the learning rate rises. */
function warmupOf({ steps, optimizer: { schedule } }: TrainingTask): number {
  let step = 0;
  while (step + 1 < steps && schedule(step + 1) > schedule(step)) step++;
  return step;
}

function lengths(values: readonly number[]): Lengths {
  let [longest, sum] = [0, 0];
  for (const value of values) [longest, sum] = [Math.max(longest, value), sum + value];
  return { longest, mean: sum / values.length };
}

function counted(tensors: Iterable<{ readonly size: number }>): Counted {
  const sizes = Array.from(tensors, ({ size }) => size);
  return { tensors: sizes.length, numbers: sizes.reduce((sum, size) => sum + size, 0) };
}

/**
 * The folder in which an output would be made, or itself where it is there.
 *
 * @throws {DiskError} when it is no folder, or may not be written to
 */
async function folderFor(output: string): Promise<string> {
  for (let folder = output; ; folder = dirname(folder)) {
    const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw new DiskError(`${output} cannot be made: ${error.message}`);
    });
    if (!found) continue;
    if (!found.isDirectory()) throw new DiskError(`${output} cannot be made: ${folder} is no folder`);
    await onDisk(`${output} cannot be written to`, () => access(folder, constants.W_OK | constants.X_OK));
    return folder;
  }
}
