/** What is looked at before a run begins: settings, folders, the dataset, what it goes on from. Nothing is written. */
import { dirname, join, resolve } from "node:path";
import { UsageError } from "@rot/tensor";
import { stripRecord } from "../../bundle/config.ts";
import { readBundleConfig } from "../../bundle/node/contents.ts";
import { checkModelFolder } from "../../bundle/node/model-folder.ts";
import type { RunConfig } from "../../config/schema.ts";
import { isThere } from "../../node/paths.ts";
import {
  CheckpointError,
  type CheckpointFolder,
  latestCheckpoint,
  listCheckpoints,
  verifyCheckpoint,
} from "../checkpoint-folder.ts";
import { onDisk } from "../disk-error.ts";
import { readRunData, type RunData } from "./run-data.ts";
import { runFiles } from "./run-manifest.ts";
import type { ReadyStage, StageName } from "./stages.ts";

/** Told what is worth a line. */
export type Note = (text: string) => void;

/** A stage of a run, and where it is. */
export interface StageFolder {
  readonly name: StageName;
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

/** The checkpoint that a path means: itself, or the latest of a run folder or of the stage-1 part of one. */
async function checkpointAt(path: string, note: Note): Promise<string> {
  if (!(await isThere(path))) throw new CheckpointError(`--stage1_checkpoint: there is no ${path}`);
  for (const folder of [path, join(path, "stage1")]) {
    const latest = await latestCheckpoint(join(folder, "checkpoints"), note);
    if (latest) return latest.path;
  }
  if (await isThere(join(path, "manifest.json"))) return (await verifyCheckpoint(resolve(path))).path;
  throw new CheckpointError(
    `--stage1_checkpoint: ${path} is neither a run folder (no checkpoints/) nor a checkpoint (no manifest.json)`,
  );
}

/** The checkpoint that a stage goes on from; null where it begins. */
export async function checkpointToResume(
  checkpoints: string,
  resume: true | string,
  note: Note,
): Promise<CheckpointFolder | null> {
  const path = resume === true ? null : resolve(resume);
  const from =
    path !== null && dirname(path) === checkpoints
      ? await verifyCheckpoint(path)
      : await latestCheckpoint(checkpoints, note);
  if (!from && (await listCheckpoints(checkpoints)).length > 0) {
    throw new CheckpointError(`${checkpoints}: no checkpoint is whole; begin again with another --output`);
  }
  return from;
}

/** A run whose settings are right. */
export interface CheckedRun {
  readonly config: RunConfig;
  readonly output: string;
  readonly stages: readonly StageFolder[];
  /** The checkpoint that stage 2 alone begins with. */
  readonly stage1: string | null;
}

/**
 * Looks at settings and folders.
 *
 * @throws {UsageError} when settings contradict each other, the output holds another run, or there is nothing to resume
 * @throws {BundleError} when there is no model
 * @throws {CheckpointError} when there is no stage 1
 */
export async function checkRun(
  given: RunConfig,
  options: { readonly output: string; readonly resume?: boolean | string; readonly events: { readonly note: Note } },
): Promise<CheckedRun> {
  check(given);
  const config = await withAbsolutePaths(given);
  await checkModelFolder(config.model);
  const output = resolve(options.output);
  const { events, resume = false } = options;
  const stages = stagesOf(config, output);
  const stage1 = config.stage1_checkpoint === null ? null : await checkpointAt(config.stage1_checkpoint, events.note);
  if (stage1 !== null && resume === false) await noteStage1(stage1, config, events.note);
  if (resume === false) await refuseSecondRun(stages);
  else await checkResume(output, resume, stages);
  return { config, output, stages, stage1 };
}

/** What stage 2 begins with, and whether its chains look otherwise than those that the head learnt. */
async function noteStage1(checkpoint: string, config: RunConfig, note: Note): Promise<void> {
  note(`stage 2 begins with ${checkpoint}`);
  const before: Readonly<Record<string, unknown>> = { ...(await readBundleConfig(checkpoint)).strips };
  const changes = Object.entries(stripRecord(config))
    .filter(([name, value]) => before[name] !== value)
    .map(([name, value]) => `${name} ${String(value)} (was ${String(before[name])})`);
  if (changes.length > 0) note(`strips are drawn otherwise than in stage 1: ${changes.join(", ")}`);
}

/** The dataset; rows that cannot be read are noted, and of a run that begins that none validates. */
export async function readNoted(config: RunConfig, note: Note, isResumed: boolean): Promise<RunData> {
  const data = await readRunData(config);
  if (data.bad.length > 0) {
    const named = data.bad.slice(0, 3).map(({ place, reason }) => `${place}: ${reason}`);
    note(
      `${data.bad.length} rows cannot be read and are left out: ${named.join("; ")}${data.bad.length > 3 ? "; …" : ""}`,
    );
  }
  const { validation_share: share } = config.data;
  if (data.validation.length === 0 && share > 0 && !isResumed) {
    note(
      `none of ${data.train.length} rows validates (data.validation_share ${share}): there is no validation and no best checkpoint; raise it for both`,
    );
  }
  return data;
}

/**
 * Whether there is something to train on, and to validate on where that is asked for. Rows left out are noted.
 *
 * @throws {UsageError} when there is not
 */
export function checkStage({ prepared, task }: ReadyStage, config: RunConfig, note: Note): void {
  const { tooLong, samples } = prepared;
  if (samples.length === 0) {
    throw new UsageError(
      `no row is left to train on: all ${tooLong.length} are longer than data.max_length (${config.data.max_length} tokens)`,
    );
  }
  if (tooLong.length > 0) {
    const named = tooLong.slice(0, 10).map((id) => JSON.stringify(id));
    note(
      `rows: ${tooLong.length} left out, longer than data.max_length (${config.data.max_length} tokens): ${named.join(", ")}${tooLong.length > 10 ? ", …" : ""}`,
    );
  }
  const { patience, metric_for_best_model: metric } = config.validation;
  if (!task.validate && (patience !== null || metric === "accuracy")) {
    throw new UsageError(
      `validation.${patience === null ? "metric_for_best_model" : "patience"}: there are no rows to validate on; raise data.validation_share (${config.data.validation_share})`,
    );
  }
}
