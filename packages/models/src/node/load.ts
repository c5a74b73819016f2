/// <reference lib="esnext.disposable" preserve="true" />
/** Checkpoint folders as transformers writes them, read without trusting them. Node only. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Device, type Tensor, WeightError } from "@rot/tensor";
import { openSafetensors } from "@rot/tensor/safetensors";
import { type FileSource, openFile } from "@rot/tensor/safetensors/node";
import type { Architecture } from "../weights/architecture.ts";
import { type Checkpoint, type CheckpointTensor, loadCheckpoint, type LoadOptions } from "../weights/checkpoint.ts";
import { quote, WeightsError } from "../weights/error.ts";
import { indexFile, readIndex, singleFile } from "../weights/shards.ts";

/** The largest JSON file of a folder that is read, in bytes: as the longest header of a safetensors file. */
const LONGEST_JSON = 100_000_000;

/** An open checkpoint folder. Close it, or declare it with `await using`. */
export interface CheckpointFolder extends Checkpoint, AsyncDisposable {
  close(): Promise<void>;
}

/**
 * Opens the weights of a folder: `model.safetensors`, or the shards of `model.safetensors.index.json`. Only headers are
 * read. Links are followed, since a cache of Hugging Face is made of them; a shard's name cannot lead out of the folder.
 *
 * @throws {WeightsError} when a file is missing, unreadable or no file, a shard's name is not a plain one, or the index
 *   and the shards differ: a tensor is not in its shard, is in another one too, or is not in the index
 * @throws {SafetensorsError} for a damaged header
 */
export async function openCheckpoint(folder: string): Promise<CheckpointFolder> {
  if (await exists(join(folder, singleFile))) return openFiles(folder, [singleFile]);
  const path = join(folder, indexFile);
  if (!(await exists(path))) {
    throw new WeightsError(
      `${folder}: it holds neither ${singleFile} nor ${indexFile}; weights in another format must be converted first`,
    );
  }
  const index = readIndex(await readJson(path), path);
  return openFiles(folder, new Set(index.values()), index);
}

/**
 * Opens some safetensors files of a folder as one checkpoint.
 *
 * @param names  of one file, or with an index of several
 * @param index  the file of each tensor
 * @see openCheckpoint for the errors
 */
export async function openFiles(
  folder: string,
  names: Iterable<string>,
  index?: ReadonlyMap<string, string>,
): Promise<CheckpointFolder> {
  const sources: FileSource[] = [];
  const close = async (): Promise<void> => {
    for (const source of sources.splice(0)) await source.close();
  };
  const tensors = new Map<string, CheckpointTensor>();
  try {
    for (const name of names) {
      const path = join(folder, name);
      await sizeOfFile(path);
      const source = await orWeightsError(path, () => openFile(path));
      sources.push(source);
      const file = await openSafetensors(source, { name: path });
      // In the order of their bytes, which a disk reads fastest.
      for (const entry of [...file.tensors.values()].toSorted((a, b) => a.begin - b.begin)) {
        const listed = index ? index.get(entry.name) : name;
        if (listed !== name) {
          const where = listed === undefined ? "the index does not list it" : `the index puts it in ${listed}`;
          throw new WeightsError(`${path}: it holds ${quote(entry.name)}, but ${where}`);
        }
        tensors.set(entry.name, { entry, file });
      }
    }
    for (const [key, name] of index ?? []) {
      if (!tensors.has(key)) {
        throw new WeightsError(`${join(folder, name)}: it lacks ${quote(key)}, which the index puts there`);
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { name: folder, tensors, close, [Symbol.asyncDispose]: close };
}

/**
 * The parameters of a model from a folder, on the device.
 *
 * @throws {WeightsError | SafetensorsError | OutOfMemoryError | DeviceLostError}
 * @see openCheckpoint for the folder, loadCheckpoint for the rest
 */
export async function loadFolder(
  folder: string,
  architecture: Architecture,
  device: Device,
  options?: LoadOptions,
): Promise<Map<string, Tensor>> {
  await using checkpoint = await openCheckpoint(folder);
  return await loadCheckpoint(checkpoint, architecture, device, options);
}

/**
 * A JSON file of a model's folder, parsed.
 *
 * @throws {WeightsError} when it is missing, no file, longer than 100 MB, not UTF-8 or not JSON
 */
export async function readJson(path: string): Promise<unknown> {
  const size = await sizeOfFile(path);
  if (size > LONGEST_JSON) throw new WeightsError(`${path}: ${size} bytes of JSON are more than ${LONGEST_JSON}`);
  const bytes = await orWeightsError(path, () => readFile(path));
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new WeightsError(`${path}: it is not JSON: ${quote((error as Error).message)}`);
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT",
  );

/** Bytes of a regular file. Asked before it is opened: opening a pipe would wait for a writer for ever. */
async function sizeOfFile(path: string): Promise<number> {
  const found = await orWeightsError(path, () => stat(path));
  if (!found.isFile()) throw new WeightsError(`${path}: it is not a file`);
  return found.size;
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "it is missing",
  ENOTDIR: "what should be its folder is none",
  ELOOP: "it is a link that leads to itself",
  EACCES: "it may not be read",
};

/** Runs `f`; what the system refuses becomes a {@link WeightsError} that names the file. */
async function orWeightsError<T>(path: string, f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (cause) {
    if (cause instanceof WeightError) throw cause;
    const { code = "", message } = cause as NodeJS.ErrnoException;
    throw Object.assign(new WeightsError(`${path}: ${reasons[code] ?? message}`), { cause });
  }
}
