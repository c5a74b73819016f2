/// <reference lib="esnext.disposable" preserve="true" />
/** A checkpoint of ours with its base, as the tensors of one whole model: what every export begins with. */
import { join } from "node:path";
import { openFiles, readJson } from "@rot/models/node";
import { checkKeys, type Description } from "@rot/models";
import { UsageError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";
import { type BundleConfig, BundleError, type MarkerRecord } from "../../bundle/config.ts";
import { haveRowFile, idsOf, namesOf, teachMarkers, tokenTables } from "../../bundle/markers.ts";
import { bundleFiles, readBundleConfig } from "../../bundle/node/contents.ts";
import { findCheckpoint } from "../../bundle/node/find-checkpoint.ts";
import { checkBase, withVocabulary } from "../../bundle/node/open-student.ts";
import { headParameters } from "../../methods/rot/head.ts";
import { isThere } from "../../node/paths.ts";
import { verifyCheckpoint } from "../../train/checkpoint-folder.ts";
import { trainingFiles } from "../../train/training-state.ts";
import { readAll } from "../chunks.ts";
import { decode } from "../decode.ts";
import { type BaseModel, openBase, type StoredTensor, storedTensor } from "../import/base-model.ts";
import { encode } from "../import/floats.ts";

/** A tensor to be written. */
export interface ExportTensor {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly stream: () => AsyncGenerator<Uint8Array>;
}

/** The state of training of a checkpoint, by the names that the trainer gives parameters and moments; each is F32. */
export interface TrainingSource {
  readonly parameters: ReadonlyMap<string, StoredTensor>;
  readonly moments: ReadonlyMap<string, StoredTensor>;
}

/** What is exported. Close it, or declare it with `await using`. */
export interface ExportSource extends AsyncDisposable {
  /** The folder of the checkpoint. */
  readonly folder: string;
  readonly step: number;
  readonly config: BundleConfig;
  readonly base: BaseModel;
  /** `adapter_config.json` as it was read; null without LoRA. */
  readonly adapterConfig: Readonly<Record<string, unknown>> | null;
  readonly adapter: ReadonlyMap<string, StoredTensor>;
  readonly head: ReadonlyMap<string, StoredTensor>;
  /** Null for a checkpoint that cannot be trained on. */
  readonly training: TrainingSource | null;
  /** Rows of the markers by their names in `markers.safetensors`. */
  readonly rows: ReadonlyMap<string, ExportTensor>;
  /** The model with so many rows in its token tables. */
  describe(rows: number): Description;
  /** Its parameters by key, adapters apart: the base's, in them the rows of markers, or what was trained in their place. */
  model(rows: number): Promise<Map<string, ExportTensor>>;
}

/** Which checkpoint. */
export interface SourceOptions {
  /** A checkpoint, or a run folder. */
  readonly input: string;
  /** Where the base model is, if not where it was when it was trained. */
  readonly base?: string | undefined;
  /** Of a run's checkpoints: the best by validation, or the latest. */
  readonly checkpoint?: "best" | "latest" | undefined;
  readonly note?: (text: string) => void;
}

/**
 * Opens a checkpoint for export. Nothing is loaded.
 *
 * @throws {BundleError} when there is none, or its base is gone or another model
 * @throws {CheckpointError} when a file is not what was written
 */
export async function openSource({
  input,
  base: moved,
  checkpoint = "best",
  note: warn = () => {},
}: SourceOptions): Promise<ExportSource> {
  const folder = await findCheckpoint(input, { checkpoint, warn });
  const { step } = await verifyCheckpoint(folder);
  const config = await readBundleConfig(folder);
  const opened: AsyncDisposable[] = [];
  const close = async (): Promise<void> => {
    for (const one of opened.splice(0)) await one[Symbol.asyncDispose]();
  };
  try {
    const base = await openBaseOf(config, folder, moved);
    opened.push(base);
    const parts = await partsOf(folder, opened);
    checkParts(parts, config, folder);
    const { head, adapter, parameters, moments } = parts;
    const adapterConfig = adapter.size > 0 ? await readJson(join(folder, bundleFiles.adapterConfig)) : null;
    return {
      folder,
      step,
      config,
      base,
      adapterConfig: adapterConfig as ExportSource["adapterConfig"],
      adapter,
      head,
      training: parameters.size > 0 ? { parameters, moments } : null,
      rows: rowsOf(parts, config, base),
      describe: (vocabulary) => withVocabulary(base.description, vocabulary),
      model: (vocabulary) => modelOf(parts, { config, base, folder }, vocabulary),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The base of a checkpoint, its tokenizer taught the markers. */
async function openBaseOf({ base, markers }: BundleConfig, folder: string, moved = base.path): Promise<BaseModel> {
  const opened = await openBase(moved).catch((error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    throw new BundleError(
      `${folder} was trained on the model ${base.path}, which is not there: say where it is with --base DIR`,
    );
  });
  try {
    checkBase(opened.record, base);
    if (markers) teachMarkers(opened.tokenizer, markers, folder);
    return opened;
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

/** The tensors of each file of a checkpoint; none of a file that it does not have. */
type Parts = Readonly<
  Record<"weights" | "head" | "markers" | "adapter" | "parameters" | "moments", ReadonlyMap<string, StoredTensor>>
>;

async function partsOf(folder: string, opened: AsyncDisposable[]): Promise<Parts> {
  const read = async (name: string): Promise<ReadonlyMap<string, StoredTensor>> => {
    if (!(await isThere(join(folder, name)))) return new Map();
    const file = await openFiles(folder, [name]);
    opened.push(file);
    return new Map([...file.tensors.keys()].map((key) => [key, storedTensor(file, key)]));
  };
  return {
    weights: await read(bundleFiles.weights),
    head: await read(bundleFiles.head),
    markers: await read(bundleFiles.markers),
    adapter: await read(bundleFiles.adapter),
    parameters: await read(trainingFiles.parameters),
    moments: await read(trainingFiles.optimizer),
  };
}

function checkParts({ head, parameters, moments }: Parts, config: BundleConfig, folder: string): void {
  if (config.head) {
    const wanted = { parameters: headParameters(config.head), linears: new Map() };
    checkKeys(wanted, new Map([...head].map(([name, { shape }]) => [name, shape])), join(folder, bundleFiles.head));
  }
  const narrow = [...parameters, ...moments].find(([, { dtype }]) => dtype !== "F32");
  if (narrow) throw new BundleError(`${folder}: ${narrow[0]} is ${narrow[1].dtype}; the state of training is F32`);
}

/** The rows of the markers: in a file of their own, or in the tables where the tokenizer has them itself. */
const rowsOf = (
  { markers: rows, weights }: Parts,
  { markers }: BundleConfig,
  base: BaseModel,
): ReadonlyMap<string, ExportTensor> =>
  markers && !haveRowFile(markers) ? ownRows(markers, (key) => weights.get(key) ?? stored(base, key)) : rows;

/** The parameters of the model with so many rows in its token tables. */
async function modelOf(
  { weights, markers: rows }: Parts,
  { config, base, folder }: Pick<ExportSource, "config" | "base" | "folder">,
  vocabulary: number,
): Promise<Map<string, ExportTensor>> {
  const { markers } = config;
  const placed =
    markers && haveRowFile(markers) ? await placedRows(markers, rows, folder) : new Map<string, Float64Array>();
  const { architecture } = withVocabulary(base.description, vocabulary);
  return new Map(
    [...architecture.parameters].map(([key, shape]): [string, ExportTensor] => {
      const stored = weights.get(key) ?? storedTensor(base.checkpoint, key);
      const prefix = tokenTables.find(([, table]) => table === key)?.[0];
      const tensor = prefix === undefined ? stored : resized(stored, vocabulary, byId(placed, prefix, config), key);
      if (String(tensor.shape) !== String(shape)) {
        throw new BundleError(
          `${folder}: ${key} is [${tensor.shape.join(", ")}], the model's is [${shape.join(", ")}]`,
        );
      }
      return [key, tensor];
    }),
  );
}

/** The values of the markers' rows by name. */
async function placedRows(
  markers: NonNullable<BundleConfig["markers"]>,
  rows: ReadonlyMap<string, StoredTensor>,
  folder: string,
): Promise<Map<string, Float64Array>> {
  const values = new Map<string, Float64Array>();
  for (const [name, tensor] of rows) {
    values.set(name, decode(tensor.dtype, await readAll(tensor.stream())));
  }
  for (const name of namesOf(markers)) {
    if (!values.has(name)) throw new BundleError(`${join(folder, bundleFiles.markers)}: there is no row ${name}`);
  }
  return values;
}

/** The tensor of the base, where it has one of this name. */
const stored = ({ checkpoint }: BaseModel, key: string): StoredTensor | undefined =>
  checkpoint.tensors.has(key) ? storedTensor(checkpoint, key) : undefined;

/** The rows of markers that the tokenizer has itself, in the tables where they are. */
function ownRows(markers: MarkerRecord, tableOf: (key: string) => StoredTensor | undefined): Map<string, ExportTensor> {
  const rows = new Map<string, ExportTensor>();
  for (const [prefix, key] of tokenTables) {
    const table = tableOf(key);
    if (!table) continue;
    const [count = 1, width = 0] = table.shape;
    const bytes = table.bytes / count;
    for (const [i, name] of namesOf(markers).entries()) {
      const at = (idsOf(markers)[i] as number) * bytes;
      rows.set(prefix + name, {
        dtype: table.dtype,
        shape: [width],
        bytes,
        stream: () => table.stream(at, at + bytes),
      });
    }
  }
  return rows;
}

/** The rows of one table by id. */
function byId(
  rows: ReadonlyMap<string, Float64Array>,
  prefix: string,
  { markers }: BundleConfig,
): Map<number, Float64Array> {
  const names = markers ? namesOf(markers) : [];
  return new Map(
    names.flatMap((name, i) => {
      const row = rows.get(prefix + name);
      return row && markers ? [[idsOf(markers)[i] as number, row] as const] : [];
    }),
  );
}

/** A token table with another number of rows, and with some of them written over. */
function resized(table: StoredTensor, rows: number, own: ReadonlyMap<number, Float64Array>, key: string): ExportTensor {
  const [before = 0, width = 0] = table.shape;
  const each = table.bytes / Math.max(1, before);
  const ids = [...own.keys()].filter((id) => id < rows).toSorted((a, b) => a - b);
  for (let id = before; id < rows; id++) {
    if (!own.has(id)) throw new BundleError(`${key} has ${before} rows, and no file has the row of token ${id}`);
  }
  return {
    dtype: table.dtype,
    shape: [rows, width],
    bytes: rows * each,
    async *stream() {
      let at = 0;
      for (const id of [...ids, rows]) {
        if (at < id) yield* table.stream(at * each, id * each);
        if (id < rows) yield encode(table.dtype, own.get(id) as Float64Array, key);
        at = id + 1;
      }
    },
  };
}
