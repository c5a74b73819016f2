/** A checkpoint of the published trainer as a run folder of ours. */
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { printAdapterConfig, WeightsError } from "@rot/models";
import { UsageError } from "@rot/tensor";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { type BundleConfig, type MarkerRecord, paperStrips, printBundleConfig } from "../../bundle/config.ts";
import { bundleFiles } from "../../bundle/node/contents.ts";
import type { HeadConfig } from "../../methods/rot/head.ts";
import { type Contents, writeCheckpoint } from "../../train/checkpoint-folder.ts";
import { type OnProgress, requireSpace, writeFolder } from "../files.ts";
import type { CheckpointTensor } from "../open-checkpoint.ts";
import { type BaseModel, openBase } from "./base-model.ts";
import { checkModel, headOf, loraOf, planModel } from "./fit.ts";
import { changedWeights } from "./frozen.ts";
import { checkOwnRows, findRows, type Row } from "./marker-rows.ts";
import { hasStates, openStage1, openStates, type PublishedStage1, type PublishedStates } from "./published.ts";

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
  /** Latents a question gets unless generation is told otherwise; 32, as published for word problems. */
  readonly latents?: number;
  /** The numerator of LoRA's scaling; 32, as in the published configurations. */
  readonly loraAlpha?: number;
  /** What the run's manifest says of who made it. */
  readonly manifest?: Readonly<Record<string, unknown>>;
  readonly onProgress?: OnProgress;
  /** Told what is worth a line. */
  readonly note?: (text: string) => void;
}

/** A stage that was imported. */
export interface ImportedStage {
  readonly mode: BundleConfig["mode"];
  readonly step: number;
  readonly checkpoint: string;
}

/** What was written. */
export interface ImportResult {
  readonly stages: readonly ImportedStage[];
  readonly markers: MarkerRecord;
  readonly head: HeadConfig;
  /** Of LoRA, its rank. */
  readonly rank: number | null;
}

/** A stage to be written. */
interface Stage {
  readonly name: "stage1" | "stage2";
  readonly mode: BundleConfig["mode"];
  readonly step: number;
  readonly contents: Contents;
}

/**
 * Imports a stage, or both. Weights are streamed: frozen ones are compared with the base's, trained ones are copied with
 * their bits. The folder appears when it is whole.
 *
 * @throws {UsageError} when an input is not there, or the output holds something
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
  const { note = () => {}, loraAlpha = 32, latents = 32 } = options;
  const { markers, description } = planModel(base, stage1, states);
  if (states) await checkModel(states, description, base);
  if (states && states.dropped.length > 0)
    note(`${states.dropped.length} tensors of the trainer are no model's: left out`);
  if (!stage1) note("without --stage1 the projection head is the one among the weights");
  const { head, config: headConfig } = headOf(stage1, states, base);
  const lora = states && states.adapter.size > 0 ? loraOf(states, description, loraAlpha) : null;
  if (lora && !trained)
    throw new UsageError(`${states?.file} has LoRA adapters, which are of stage 2: give it as --stage2`);

  const counted = counting(states, [...description.architecture.parameters.keys()], options.onProgress);
  const full = trained !== null && lora === null;
  const wanted = (key: string): boolean => !full || key.startsWith("model.visual.");
  const changed = states ? await changedWeights(states.model, base, markers, wanted, counted) : [];
  if (changed.length > 0 && !full) {
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

  const shared = (mode: BundleConfig["mode"]): Contents => ({
    [bundleFiles.config]: [
      Buffer.from(
        printBundleConfig({
          mode,
          base: base.record,
          markers,
          head: headConfig,
          latents: { budget: latents },
          answerStyle: "reference",
          chain: true,
          strips: { ...paperStrips, encoding: "reference", newlines: "keep", engine: "basic" },
        }),
      ),
    ],
    [bundleFiles.head]: tensorFile(head),
    ...(rows && { [bundleFiles.markers]: file([...rows].map(([name, row]) => rowSource(name, row, width))) }),
  });
  const weights = full
    ? trainedWeights(trained.model, changed, description.architecture.parameters)
    : new Map<string, CheckpointTensor>();
  const stages: Stage[] = [];
  if (stage1) stages.push({ name: "stage1", mode: "stage1", step: stage1.step, contents: shared("stage1") });
  if (trained) {
    const mode = lora ? "lora" : "full";
    const contents: Contents = {
      ...shared(mode),
      ...(lora && {
        [bundleFiles.adapterConfig]: [Buffer.from(printAdapterConfig(lora, base.folder))],
        [bundleFiles.adapter]: tensorFile(trained.adapter),
      }),
      ...(full && {
        [bundleFiles.weights]: tensorFile(new Map([...weights].map(([key, tensor]) => [key, counted(tensor)]))),
      }),
    };
    stages.push({ name: "stage2", mode, step: trained.step, contents });
  }
  const bytes = [...weights.values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
  return { stages: await writeRun(options, stages, bytes), markers, head: headConfig, rank: lora?.r ?? null };
}

/** The run folder: stages in it as `rot-cli train` lays them out, and what it was made from. */
async function writeRun(
  { output, stage1, stage2, base, manifest }: ImportOptions,
  stages: readonly Stage[],
  bytes: number,
): Promise<ImportedStage[]> {
  const parent = dirname(resolve(output));
  await mkdir(parent, { recursive: true });
  await requireSpace(parent, bytes);
  const written: ImportedStage[] = [];
  await writeFolder(output, [...stages.map(({ name }) => name), "run.json"], async (aside) => {
    for (const { name, mode, step, contents } of stages) {
      const path = await writeCheckpoint(join(aside, name, "checkpoints"), step, contents);
      written.push({ mode, step, checkpoint: join(output, path.slice(aside.length + 1)) });
    }
    const text = { format: 1, begun: new Date().toISOString(), imported: { stage1, stage2, base }, ...manifest };
    await writeFileAtomically(join(aside, "run.json"), [Buffer.from(`${JSON.stringify(text, null, 2)}\n`)]);
  });
  return written;
}

/** The decoder, and what else changed; an output matrix that is the embedding is not written twice. */
const trainedWeights = (
  model: PublishedStates["model"],
  changed: readonly string[],
  parameters: ReadonlyMap<string, unknown>,
): Map<string, CheckpointTensor> =>
  new Map(
    [...model].filter(([key]) => parameters.has(key) && (!key.startsWith("model.visual.") || changed.includes(key))),
  );

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
