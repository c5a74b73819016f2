/// <reference lib="esnext.disposable" preserve="true" />
/** Any of the files that people hold checkpoints in, seen as named tensors. */
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UsageError } from "@rot/tensor";
import type { FileDType, TensorEntry } from "@rot/tensor/safetensors";
import { type FileSource, openFile } from "@rot/tensor/safetensors/node";
import { findCheckpoint } from "../bundle/node/find-checkpoint.ts";
import { isFolder } from "../node/paths.ts";
import { openSafetensorsFiles, readAliases, readJsonObject } from "./safetensors-folder.ts";
import { groupTied } from "./state-dict.ts";
import { openTorchFile, type TorchFile } from "./torch-pickle/reader.ts";
import { bytesOf } from "./torch-pickle/strided.ts";
import type { PickleValue } from "./torch-pickle/values.ts";

/** One tensor of a checkpoint. */
export interface CheckpointTensor {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /** Bytes, once it is contiguous. */
  readonly bytes: number;
  /** Its values as they lie in the file, where the format has strides. */
  readonly stride?: readonly number[];
  stream(): AsyncGenerator<Uint8Array>;
}

/** An opened checkpoint. Close it, or declare it with `await using`. */
export interface Checkpoint extends AsyncDisposable {
  readonly kind: "torch zip" | "torch legacy" | "safetensors" | "safetensors shards" | "peft adapter" | "several files";
  readonly files: readonly string[];
  readonly tensors: readonly CheckpointTensor[];
  /** Groups of names that show the same elements. */
  readonly tied: readonly (readonly string[])[];
  /** What the file says about itself. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** Classes and functions that a pickle names. */
  readonly globals: readonly string[];
  /** What was saved, of a torch file. */
  readonly value?: PickleValue;
}

/**
 * Opens a `.pt` or `.bin` file, a safetensors file or index, or a folder with one of them: a PEFT adapter, a model in
 * safetensors, a DeepSpeed checkpoint with its `latest`.
 *
 * @throws {UsageError} for a folder that holds none of them, or several
 * @throws {WeightError} for a damaged or hostile file
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const about = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw new UsageError(`${path} is not there`);
    throw error;
  });
  if (about.isDirectory()) return openFolder(path);
  return /\.(safetensors|json)$/.test(path) ? openSafetensorsCheckpoint(path) : openTorchCheckpoint(path);
}

/**
 * Opens a file that a user named.
 *
 * @throws {UsageError} when it is not there, or a folder
 */
export async function openNamed(path: string): Promise<FileSource> {
  const about = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") throw new UsageError(`${path} is not there`);
    throw error;
  });
  if (about.isDirectory()) throw new UsageError(`${path} is a folder: name the file in it`);
  return await openFile(path);
}

async function openTorchCheckpoint(path: string): Promise<Checkpoint> {
  const source = await openNamed(path);
  let file: TorchFile;
  try {
    file = await openTorchFile(source, { name: path });
  } catch (error) {
    await source.close();
    throw error;
  }
  const { container, value, globals, stream } = file;
  return {
    kind: `torch ${container}`,
    files: [path],
    tensors: file.tensors.map(({ name, tensor }) => ({
      name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      stride: tensor.stride,
      bytes: bytesOf(tensor),
      stream: () => stream(tensor),
    })),
    tied: groupTied(file.tensors).flatMap(({ names }) => (names.length > 1 ? [names] : [])),
    metadata: new Map(),
    globals,
    value,
    [Symbol.asyncDispose]: () => source.close(),
  };
}

async function openSafetensorsCheckpoint(path: string): Promise<Checkpoint> {
  const opened = await openSafetensorsFiles(path);
  const close = () => opened[Symbol.asyncDispose]();
  let aliases: ReadonlyMap<string, string>;
  try {
    aliases = await readAliases(dirname(path), opened.tensors);
  } catch (error) {
    await close();
    throw error;
  }
  const tied = new Map<string, string[]>();
  for (const [alias, name] of aliases) tied.set(name, [...(tied.get(name) ?? [name]), alias]);
  const named = [...opened.tensors.keys()].map((name): [string, string] => [name, name]);
  return {
    kind: path.endsWith(".json") ? "safetensors shards" : "safetensors",
    files: opened.files,
    tensors: [...named, ...aliases].map(([name, of]) => {
      const { dtype, shape, begin, end } = opened.tensors.get(of) as TensorEntry;
      return { name, dtype, shape, bytes: end - begin, stream: () => opened.stream(of) };
    }),
    tied: [...tied.values()],
    metadata: opened.metadata,
    globals: [],
    [Symbol.asyncDispose]: close,
  };
}

async function openFolder(folder: string): Promise<Checkpoint> {
  const names = await readdir(folder);
  const has = (name: string): boolean => names.includes(name);
  if (has("adapter_config.json")) {
    const weights = ["adapter_model.safetensors", "adapter_model.bin"].find(has);
    if (weights === undefined)
      throw new UsageError(`${folder} has adapter_config.json, but no adapter_model.safetensors`);
    const metadata = await readJsonObject(join(folder, "adapter_config.json"));
    return { ...(await openCheckpoint(join(folder, weights))), kind: "peft adapter", metadata };
  }
  if (has("latest")) {
    const tag = (await readFile(join(folder, "latest"), "utf8")).trim();
    if (!/^\w[\w.-]*$/.test(tag)) throw new UsageError(`${join(folder, "latest")} holds no name of a folder`);
    return openTorchCheckpoint(join(folder, tag, "mp_rank_00_model_states.pt"));
  }
  const models = names.filter((name) => name.endsWith(".safetensors.index.json"));
  const files = models.length > 0 ? models : names.filter((name) => /\.(safetensors|pt|bin)$/.test(name));
  const [file, ...more] = files;
  if (file === undefined) throw new UsageError(`${folder} has no .safetensors, .pt or .bin file: name one`);
  if (more.length > 0) throw new UsageError(`${folder} has several: ${files.slice(0, 8).join(", ")}; name one`);
  return openCheckpoint(join(folder, file));
}

/** What says that the files of a folder belong together: a checkpoint of ours, and a stage 1 of the published code. */
const together = ["bundle.json", "projection_head.bin", "projection_head.safetensors"];

/**
 * The same, and folders of several files that belong together: a checkpoint of ours, or the latest of a run, and the stage 1
 * of the published code. Before the name of each tensor is that of its file then.
 *
 * @throws as {@link openCheckpoint} does
 */
export async function openWhole(path: string): Promise<Checkpoint> {
  if (!(await isFolder(path))) return await openCheckpoint(path);
  const names = await readdir(path);
  if (names.includes("checkpoints") && names.includes("run.json"))
    return await openWhole(await findCheckpoint(path, {}));
  if (names.includes("latest") || !together.some((name) => names.includes(name))) return await openCheckpoint(path);
  const opened: (readonly [file: string, checkpoint: Checkpoint])[] = [];
  const close = async (): Promise<void> => {
    for (const [, checkpoint] of opened.splice(0)) await checkpoint[Symbol.asyncDispose]();
  };
  try {
    for (const file of names.filter((name) => /\.(safetensors|pt|bin)$/.test(name)).toSorted()) {
      opened.push([file, await openCheckpoint(join(path, file))]);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const all = <T>(of: (checkpoint: Checkpoint, file: string) => readonly T[]): T[] =>
    opened.flatMap(([file, checkpoint]) => of(checkpoint, file));
  return {
    kind: "several files",
    files: all(({ files }) => files),
    tensors: all(({ tensors }, file) => tensors.map((tensor) => ({ ...tensor, name: `${file}: ${tensor.name}` }))),
    tied: all(({ tied }, file) => tied.map((group) => group.map((name) => `${file}: ${name}`))),
    metadata: new Map(all(({ metadata }) => [...metadata])),
    globals: [...new Set(all(({ globals }) => globals))].toSorted(),
    [Symbol.asyncDispose]: close,
  };
}
