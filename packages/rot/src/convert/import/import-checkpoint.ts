/** A checkpoint of the published trainer as a run folder of ours. */
import { type Description, printAdapterConfig, WeightsError } from "@rot/models";
import { UsageError } from "@rot/tensor";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import { type BundleConfig, type MarkerRecord, printBundleConfig, type StripRecord } from "../../bundle/config.ts";
import { bundleFiles } from "../../bundle/node/contents.ts";
import type { ConfigFile } from "../../config/load.ts";
import type { RunConfig } from "../../config/schema.ts";
import type { HeadConfig } from "../../methods/rot/head.ts";
import type { Contents } from "../../train/checkpoint-folder.ts";
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

async function importOpened({ base, stage1, states, trained }: Sources, options: ImportOptions): Promise<ImportResult> {
  const { note = () => {}, latents = 32 } = options;
  const before = configBefore({ config: options.config, note });
  const { markers, description } = planModel(base, stage1, states);
  if (states) await checkModel(states, description, base);
  if (states && states.dropped.length > 0)
    note(`${states.dropped.length} tensors of the trainer are no model's: left out`);
  if (!stage1) note("without --stage1 the projection head is the one among the weights");
  const { head, config: headConfig } = headOf(stage1, states, base);
  const loraAlpha = options.loraAlpha ?? before.config.lora.alpha;
  const lora =
    states && states.adapter.size > 0
      ? loraOf(states, description, { alpha: loraAlpha, dropout: before.config.lora.dropout })
      : null;
  if (lora && !trained)
    throw new UsageError(`${states?.file} has LoRA adapters, which are of stage 2: give it as --stage2`);
  const isHeadOnly = before.config.stage2.mode === "lm_head";
  const mode = !trained ? null : lora ? "lora" : isHeadOnly ? "lm_head" : "full";
  const facts: CheckpointFacts = {
    stage: trained ? "2" : "1",
    model: base.folder,
    mode,
    head: headConfig,
    lora: lora && { r: lora.r, alpha: lora.alpha, targetModules: [lora.targetModules].flat() },
  };
  const settings = { config: options.config, dataset: options.dataset, output: options.output, note };
  const config = configOfRun(before, facts, settings);
  const data = options.weightsOnly ? null : await dataOfRun(config, settings);

  const { parameters } = description.architecture;
  const counted = counting(states, [...parameters.keys()], options.onProgress);
  const learns = learning(mode, description);
  const changed = states ? await changedWeights(states.model, base, markers, (key) => !learns(key), counted) : [];
  // The published code may train the vision tower along; nothing else may differ.
  if (changed.some((key) => mode !== "full" || !key.startsWith("model.visual."))) {
    throw new WeightsError(
      `${states?.file}: weights that training leaves as they are differ from those of ${base.folder} (${changed.length}): it is another base`,
      { unexpected: changed },
    );
  }
  const { D: width, tied } = description.config.text;
  const places = {
    markers,
    width,
    tied,
    stage1: stage1?.rows,
    stage1File: stage1?.file ?? "",
    states: states?.model,
    note,
  };
  if (markers.own) await checkOwnRows(places, base);
  const rows = markers.own ? null : await findRows(places);

  const shared = (of: BundleConfig["mode"], tensors = head): Contents => ({
    [bundleFiles.config]: [
      Buffer.from(
        printBundleConfig({
          mode: of,
          base: base.record,
          markers,
          head: headConfig,
          latents: { budget: latents },
          answerStyle: config.stage2.answer_style,
          chain: true,
          strips: stripsOf(config, before.published),
        }),
      ),
    ],
    [bundleFiles.head]: tensorFile(tensors),
    ...(rows && { [bundleFiles.markers]: file([...rows].map(([name, row]) => rowSource(name, row, width))) }),
  });
  const weights = new Map(
    [...(trained?.model ?? [])].filter(([key]) => parameters.has(key) && (learns(key) || changed.includes(key))),
  );
  const step = trained ? trained.step : (states?.step ?? stage1?.step ?? 0);
  const trains = new Map<string, CheckpointTensor>(trained?.adapter);
  for (const [key, tensor] of weights) if (learns(key)) trains.set(key, tensor);
  const isHeadTrained = trained === null || !config.stage2.freeze_head;
  const lastHead = trained && isHeadTrained ? headOf(null, trained, base).head : head;
  if (isHeadTrained) for (const [name, tensor] of lastHead) trains.set(`head.${name}`, tensor);
  await using optimizer = options.weightsOnly ? null : await optimizerOf({ stage1, states }, options);
  const state = options.weightsOnly
    ? null
    : await importState(
        { task: trained ? "stage2" : "stage1", step, parameters: trains },
        optimizer?.found ?? null,
        note,
      );
  const last: Contents = {
    ...shared(bundleModeOf(mode), lastHead),
    ...(trained &&
      lora && {
        [bundleFiles.adapterConfig]: [Buffer.from(printAdapterConfig(lora, base.folder))],
        [bundleFiles.adapter]: tensorFile(trained.adapter),
      }),
    ...(weights.size > 0 && {
      [bundleFiles.weights]: tensorFile(new Map([...weights].map(([key, tensor]) => [key, counted(tensor)]))),
    }),
    ...state?.contents,
  };
  const { stage1: from, stage2: then, base: on, output, manifest } = options;
  const stages = await writeRun(output, {
    before: trained ? { step: stage1?.step ?? 0, contents: shared("stage1") } : null,
    last: { mode: bundleModeOf(mode), step, contents: last },
    bytes: [...weights.values()].reduce((sum, tensor) => sum + tensor.bytes, state?.bytes ?? 0),
    config: state && config,
    data,
    manifest: { imported: { stage1: from, stage2: then, base: on }, ...manifest },
  });
  return {
    stages,
    markers,
    head: headConfig,
    lora: lora && { r: lora.r, alpha: lora.alpha },
    training: state && { moments: state.moments, data: data !== null },
  };
}

type Mode = RunConfig["stage2"]["mode"] | null;

/** What a checkpoint says of itself. */
const bundleModeOf = (mode: Mode): BundleConfig["mode"] =>
  mode === null ? "stage1" : mode === "lm_head" ? "lm-head" : mode;

/** Which of the base's own weights a stage trains. */
function learning(mode: Mode, { config }: Description): (key: string) => boolean {
  const output = config.text.tied ? "model.language_model.embed_tokens.weight" : "lm_head.weight";
  return (key) => (mode === "full" ? !key.startsWith("model.visual.") : mode === "lm_head" ? key === output : false);
}

/** Chains as the run draws them, or as the published code drew them. */
const stripsOf = ({ rendering }: RunConfig, published: boolean): StripRecord => ({
  encoding: rendering.encoding,
  fontSize: rendering.font_size,
  height: rendering.height,
  padding: rendering.padding,
  thoughtMarkers: rendering.thought_markers,
  newlines: published ? "keep" : "space",
  engine: published ? "basic" : "shaped",
});

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

const file = (sources: readonly TensorSource[]): AsyncGenerator<Uint8Array> =>
  writeSafetensors(sources, new Map([["format", "pt"]]));

const tensorFile = (tensors: ReadonlyMap<string, CheckpointTensor>): AsyncGenerator<Uint8Array> =>
  file(
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
