/** A checkpoint of the published trainer as a run folder of ours. */
import { type Description, type LoraConfig, printAdapterConfig, WeightsError } from "@rot/models";
import { UsageError } from "@rot/tensor";
import type { TensorSource } from "@rot/tensor/safetensors";
import { type BundleConfig, type MarkerRecord, printBundleConfig, stripRecord } from "../../bundle/config.ts";
import { bundleFiles, weightsFile } from "../../bundle/node/contents.ts";
import type { ConfigFile } from "../../config/load.ts";
import type { RunConfig } from "../../config/schema.ts";
import type { HeadConfig } from "../../methods/rot/head.ts";
import type { Contents } from "../../train/checkpoint-folder.ts";
import { trainsWeight } from "../../train/node/learns.ts";
import type { OnProgress } from "../files.ts";
import type { CheckpointTensor } from "../open-checkpoint.ts";
import { type BaseModel, openBase } from "./base-model.ts";
import { checkModel, headOf, loraOf, planModel } from "./fit.ts";
import { changedWeights } from "./frozen.ts";
import { checkOwnRows, findRows, type Row } from "./marker-rows.ts";
import { type FoundOptimizer, openHeadOptimizer, openPartitions } from "./optimizer-states.ts";
import { hasStates, openStage1, openStates, type PublishedStage1, type PublishedStates } from "./published.ts";
import { type ImportedStage, writeRun } from "./run-folder.ts";
import { type CheckpointFacts, configBefore, configOfRun, dataOfRun } from "./run-config.ts";
import { importState } from "./training-state.ts";

/** What to import, and what its files do not say. */
export interface ImportOptions {
  /** The folder with `projection_head.bin` and `special_tokens.bin`. */
  readonly stage1?: string | undefined;
  /** The folder with `global_step…`, its `mp_rank_00_model_states.pt`, or a safetensors conversion of it. */
  readonly stage2?: string | undefined;
  /** The folder of the model that was trained. */
  readonly base: string;
  /** The run folder to make. */
  readonly output: string;
  /** With which settings training goes on: a published configuration or one of ours; without it the defaults. */
  readonly config?: ConfigFile | undefined;
  /** The rows that training goes on with, in place of those that the configuration names. */
  readonly dataset?: string | undefined;
  /** Leave out the moments of the optimizer, so that AdamW begins anew. */
  readonly freshMoments?: boolean | undefined;
  /** Leave out all that training needs. */
  readonly weightsOnly?: boolean | undefined;
  /** Latents a question gets unless generation is told otherwise; 32, as published for word problems. */
  readonly latents?: number | undefined;
  /** The numerator of LoRA's scaling; that of the configuration, which is 32 where it is not said. */
  readonly loraAlpha?: number | undefined;
  /** What the run's manifest says of who made it. */
  readonly manifest?: Readonly<Record<string, unknown>>;
  readonly onProgress?: OnProgress;
  /** Told what is worth a line. */
  readonly note?: (text: string) => void;
}

/** What was written. */
export interface ImportResult {
  readonly stages: readonly ImportedStage[];
  readonly markers: MarkerRecord;
  readonly head: HeadConfig;
  /** Of LoRA, its rank and numerator. */
  readonly lora: { readonly r: number; readonly alpha: number } | null;
  /** What training goes on from; null where it was left out. */
  readonly training: {
    /** Where AdamW's moments are from; null where they begin anew. */
    readonly moments: readonly string[] | null;
    /** Whether the rows to train on are known. */
    readonly data: boolean;
  } | null;
}

/**
 * Imports a stage, or both, as a run. Weights are streamed: frozen ones are compared with the base's, trained ones are copied
 * with their bits. The folder appears when it is whole.
 *
 * The run is of the last stage; stage 2 has the checkpoint it began with in `stage1/`. Beside what evaluation opens there is
 * what training goes on from: parameters in f32, and the moments of AdamW where the optimizer's files are there.
 *
 * @throws {UsageError} when an input is not there, or the output holds something
 * @throws {ConfigurationError | DatasetError} for a configuration or rows that cannot be read
 * @throws {WeightError} for a damaged file; for keys that are missing, unexpected or of another shape, all of them listed;
 *   for a base whose markers or frozen weights are not those of the checkpoint
 */
export async function importCheckpoint(options: ImportOptions): Promise<ImportResult> {
  const { stage1: folder, stage2: path } = options;
  if (folder === undefined && path === undefined) throw new UsageError("give a checkpoint: --stage1, --stage2 or both");
  await using base = await openBase(options.base);
  await using stage1 = folder === undefined ? null : await openStage1(folder);
  const whole = path ?? (folder !== undefined && (await hasStates(folder)) ? folder : undefined);
  await using states = whole === undefined ? null : await openStates(whole);
  return await importOpened({ base, stage1, states, trained: path === undefined ? null : states }, options);
}

interface Sources {
  readonly base: BaseModel;
  readonly stage1: PublishedStage1 | null;
  /** The whole model, which DeepSpeed saves in stage 1 too. */
  readonly states: PublishedStates | null;
  /** The same, when it is of stage 2. */
  readonly trained: PublishedStates | null;
}

async function importOpened(sources: Sources, options: ImportOptions): Promise<ImportResult> {
  const { base, stage1, states, trained } = sources;
  const { config: file, dataset, output, note = () => {} } = options;
  const settings = { config: file, dataset, output, note };
  const before = configBefore(settings);
  const found = await look(sources, before.config, { ...options, note });
  const { mode, markers, head, lora } = found;
  const config = configOfRun(before, factsOf(found, base), settings);
  const data = options.weightsOnly ? null : await dataOfRun(config, settings);

  const counted = counting(states, [...found.description.architecture.parameters.keys()], options.onProgress);
  const learns = mode === null ? (): boolean => false : trainsWeight(mode, found.description);
  const changed = await changedOf(sources, found, learns, counted);
  const rows = await rowsOf(sources, found, note);
  const learnt = learntOf(sources, found, config.stage2.freeze_head, learns, changed);
  const bundle: Omit<BundleConfig, "mode"> = {
    base: base.record,
    markers,
    head: head.config,
    latents: { budget: options.latents ?? 32 },
    answerStyle: config.stage2.answer_style,
    chain: true,
    strips: stripRecord(config, before.published),
  };
  await using optimizer = options.weightsOnly ? null : await optimizerOf(sources, options);
  const state = options.weightsOnly
    ? null
    : await importState(
        { task: trained ? "stage2" : "stage1", step: learnt.step, parameters: learnt.parameters },
        optimizer?.found ?? null,
        note,
      );
  const last: Contents = {
    ...bundleOf({ mode: bundleModeOf(mode), ...bundle }, learnt.head, rows),
    ...(trained &&
      lora && {
        [bundleFiles.adapterConfig]: [Buffer.from(printAdapterConfig(lora, base.folder))],
        [bundleFiles.adapter]: tensorFile(trained.adapter),
      }),
    ...(learnt.weights.size > 0 && {
      [bundleFiles.weights]: tensorFile(new Map([...learnt.weights].map(([key, tensor]) => [key, counted(tensor)]))),
    }),
    ...state?.contents,
  };
  const stages = await writeRun(output, {
    before: trained && {
      step: stage1?.step ?? 0,
      contents: bundleOf({ mode: "stage1", ...bundle }, head.tensors, rows),
    },
    last: { mode: bundleModeOf(mode), step: learnt.step, contents: last },
    bytes: [...learnt.weights.values()].reduce((sum, tensor) => sum + tensor.bytes, state?.bytes ?? 0),
    config: state && config,
    data,
    manifest: {
      imported: { stage1: options.stage1, stage2: options.stage2, base: options.base },
      ...options.manifest,
    },
  });
  return {
    stages,
    markers,
    head: head.config,
    lora: lora && { r: lora.r, alpha: lora.alpha },
    training: state && { moments: state.moments, data: data !== null },
  };
}

type Tensors = ReadonlyMap<string, CheckpointTensor>;

/** What a checkpoint turns out to be. */
interface Found {
  readonly mode: Mode;
  readonly markers: MarkerRecord;
  /** The base, with as many rows in its token tables as the checkpoint has. */
  readonly description: Description;
  /** Of stage 1. */
  readonly head: { readonly tensors: Tensors; readonly config: HeadConfig };
  readonly lora: LoraConfig | null;
}

/** Looks at names and shapes; nothing large is read. */
async function look(
  { base, stage1, states, trained }: Sources,
  { lora: settings, stage2 }: RunConfig,
  { loraAlpha, note }: { readonly loraAlpha?: number | undefined; readonly note: (text: string) => void },
): Promise<Found> {
  const { markers, description } = planModel(base, stage1, states);
  if (states) await checkModel(states, description, base);
  if (states && states.dropped.length > 0)
    note(`${states.dropped.length} tensors of the trainer are no model's: left out`);
  if (!stage1) note("without --stage1 the projection head is the one among the weights");
  const { head: tensors, config } = headOf(stage1, states, base);
  const scaled = { alpha: loraAlpha ?? settings.alpha, dropout: settings.dropout };
  const lora = states && states.adapter.size > 0 ? loraOf(states, description, scaled) : null;
  if (lora && !trained)
    throw new UsageError(`${states?.file} has LoRA adapters, which are of stage 2: give it as --stage2`);
  const mode = !trained ? null : lora ? "lora" : stage2.mode === "lm_head" ? "lm_head" : "full";
  return { mode, markers, description, head: { tensors, config }, lora };
}

const factsOf = ({ mode, head, lora }: Found, { folder }: BaseModel): CheckpointFacts => ({
  stage: mode === null ? "1" : "2",
  model: folder,
  mode,
  head: head.config,
  lora: lora && { r: lora.r, alpha: lora.alpha, targetModules: [lora.targetModules].flat() },
});

/**
 * The weights that do not learn, and differ from the base's: those of the vision tower, which the published code may train
 * along.
 *
 * @throws {WeightsError} when others do
 */
async function changedOf(
  { base, states }: Sources,
  { mode, markers }: Found,
  learns: (key: string) => boolean,
  counted: (tensor: CheckpointTensor) => CheckpointTensor,
): Promise<readonly string[]> {
  if (!states) return [];
  const changed = await changedWeights(states.model, base, markers, (key) => !learns(key), counted);
  if (changed.every((key) => mode === "full" && key.startsWith("model.visual."))) return changed;
  throw new WeightsError(
    `${states.file}: weights that training leaves as they are differ from those of ${base.folder} (${changed.length}): it is another base`,
    { unexpected: changed },
  );
}

/** The file of the markers' rows; null where the base has them itself. */
async function rowsOf(
  { base, stage1, states }: Sources,
  { markers, description }: Found,
  note: (text: string) => void,
): Promise<readonly TensorSource[] | null> {
  const { D: width, tied } = description.config.text;
  const where = { stage1: stage1?.rows, stage1File: stage1?.file ?? "", states: states?.model };
  const places = { markers, width, tied, ...where, note };
  if (markers.own) {
    await checkOwnRows(places, base);
    return null;
  }
  return [...(await findRows(places))].map(([name, row]) => rowSource(name, row, width));
}

/** What the last stage trained, as it was left. */
interface Learnt {
  readonly step: number;
  /** In place of the base's. */
  readonly weights: Tensors;
  readonly head: Tensors;
  /** All that learns, by the names that our training gives it. */
  readonly parameters: Tensors;
}

function learntOf(
  { base, stage1, states, trained }: Sources,
  { description, head }: Found,
  isHeadFrozen: boolean,
  learns: (key: string) => boolean,
  changed: readonly string[],
): Learnt {
  const isOwn = (key: string): boolean => description.architecture.parameters.has(key);
  const weights = new Map(
    [...(trained?.model ?? [])].filter(([key]) => isOwn(key) && (learns(key) || changed.includes(key))),
  );
  const parameters = new Map<string, CheckpointTensor>(trained?.adapter);
  for (const [key, tensor] of weights) if (learns(key)) parameters.set(key, tensor);
  const step = trained?.step ?? states?.step ?? stage1?.step ?? 0;
  if (trained && isHeadFrozen) return { step, weights, head: head.tensors, parameters };
  const last = trained ? headOf(null, trained, base).head : head.tensors;
  for (const [name, tensor] of last) parameters.set(`head.${name}`, tensor);
  return { step, weights, head: last, parameters };
}

/** The files that a checkpoint of every mode has. */
const bundleOf = (config: BundleConfig, head: Tensors, rows: readonly TensorSource[] | null): Contents => ({
  [bundleFiles.config]: [Buffer.from(printBundleConfig(config))],
  [bundleFiles.head]: tensorFile(head),
  ...(rows && { [bundleFiles.markers]: weightsFile(rows) }),
});

type Mode = RunConfig["stage2"]["mode"] | null;

/** What a checkpoint says of itself. */
const bundleModeOf = (mode: Mode): BundleConfig["mode"] =>
  mode === null ? "stage1" : mode === "lm_head" ? "lm-head" : mode;

/** The optimizer of the stage that is gone on with. */
async function optimizerOf(
  { stage1, states }: Pick<Sources, "stage1" | "states">,
  { freshMoments }: ImportOptions,
): Promise<({ readonly found: FoundOptimizer } & AsyncDisposable) | null> {
  if (freshMoments) return null;
  const found = states
    ? await openPartitions(states)
    : await openHeadOptimizer(stage1?.file as string, stage1?.head as PublishedStage1["head"]);
  const close = async (): Promise<void> => {
    if (!("missing" in found)) await found[Symbol.asyncDispose]();
  };
  return { found, [Symbol.asyncDispose]: close };
}

/** Counts the bytes of the model as they are read: frozen weights to be compared, trained ones to be copied. */
function counting(states: PublishedStates | null, keys: readonly string[], onProgress?: OnProgress) {
  const total = keys.reduce((sum, key) => sum + (states?.model.get(key)?.bytes ?? 0), 0);
  let done = 0;
  return (tensor: CheckpointTensor): CheckpointTensor => ({
    ...tensor,
    async *stream() {
      for await (const chunk of tensor.stream()) {
        yield chunk;
        done += chunk.length;
        onProgress?.({ done: Math.min(done, total), total, unit: "bytes" });
      }
    },
  });
}

const tensorFile = (tensors: ReadonlyMap<string, CheckpointTensor>): AsyncGenerator<Uint8Array> =>
  weightsFile(
    [...tensors].map(([name, tensor]) => ({
      name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      data: () => tensor.stream(),
    })),
  );

const rowSource = (name: string, { dtype, bytes }: Row, width: number): TensorSource => ({
  name,
  dtype,
  shape: [width],
  data: bytes,
});
