/// <reference lib="esnext.disposable" preserve="true" />
/** Tensors of one safetensors file, or of several with an index. */
import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readShardIndex } from "@rot/models";
import { UsageError, WeightError } from "@rot/tensor";
import { openSafetensors, type Safetensors, type TensorEntry } from "@rot/tensor/safetensors";
import { type FileSource, openFile } from "@rot/tensor/safetensors/node";
import { CHUNK_BYTES } from "./torch-pickle/strided.ts";

/** An opened set of files. */
export interface SafetensorsFolder extends AsyncDisposable {
  /** The files that hold tensors. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** `__metadata__` of the files, joined. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The bytes of a tensor, a few MiB at a time. */
  stream(name: string): AsyncGenerator<Uint8Array>;
}

/** The record of a conversion, beside the tensors. */
export const metadataName = "conversion_metadata.json";

const largestJson = 100 * 2 ** 20;

/**
 * Opens `path`, a safetensors file or an index of several. Every tensor of the index must be in its file, and every
 * tensor of a file in the index. `total_size` is not looked at: published folders have wrong ones.
 *
 * @throws {SafetensorsError} for a damaged file
 * @throws {WeightError} for an index that does not fit its files, or names one outside its folder
 */
export async function openSafetensorsFiles(path: string): Promise<SafetensorsFolder> {
  const index = path.endsWith(".json") ? await readIndex(path) : undefined;
  const files = index ? [...new Set(index.values())].map((name) => join(dirname(path), name)) : [path];
  const sources: FileSource[] = [];
  const close = async (): Promise<void> => void (await Promise.all(sources.map((source) => source.close())));
  try {
    const tensors = new Map<string, TensorEntry>();
    const holders = new Map<string, Safetensors>();
    const metadata = new Map<string, string>();
    for (const file of files) {
      const source = await openFile(file).catch((error: NodeJS.ErrnoException) => {
        if (index && error.code === "ENOENT") throw new WeightError(`${path} names ${file}, which is not there`);
        throw error;
      });
      sources.push(source);
      const opened = await openSafetensors(source, { name: file });
      for (const [key, text] of opened.metadata) metadata.set(key, text);
      for (const [name, entry] of opened.tensors) {
        if (index && join(dirname(path), index.get(name) ?? "") !== file) {
          throw new WeightError(`${file} holds ${JSON.stringify(name)}, which ${path} does not place there`);
        }
        tensors.set(name, entry);
        holders.set(name, opened);
      }
    }
    for (const [name, file] of index ?? []) {
      if (!tensors.has(name))
        throw new WeightError(`${path} places ${JSON.stringify(name)} in ${file}, which lacks it`);
    }
    async function* stream(name: string): AsyncGenerator<Uint8Array> {
      const entry = tensors.get(name);
      const holder = holders.get(name);
      if (!entry || !holder) throw new WeightError(`${path}: no tensor ${JSON.stringify(name)}`);
      const size = entry.end - entry.begin;
      for (let at = 0; at < size; at += CHUNK_BYTES) {
        yield await holder.readRange(name, at, Math.min(at + CHUNK_BYTES, size));
      }
    }
    return { files, tensors, metadata, stream, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** JSON from outside: an object, and not a huge one. */
export async function readJsonObject(path: string): Promise<ReadonlyMap<string, unknown>> {
  const { size } = await stat(path);
  if (size > largestJson) throw new WeightError(`${path} has ${size} bytes, more than ${largestJson}`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) throw new WeightError(`${path} is not JSON: ${error.message}`);
    throw error;
  }
  return asMap(value) ?? fail(path, "holds no object");
}

function fail(path: string, message: string): never {
  throw new WeightError(`${path} ${message}`);
}

/** A JSON object as a Map: `__proto__` is a key like any other. */
const asMap = (value: unknown): ReadonlyMap<string, unknown> | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? new Map(Object.entries(value)) : undefined;

/** An object of strings. */
function strings(path: string, value: unknown, what: string): ReadonlyMap<string, string> {
  const map = asMap(value) ?? fail(path, `has no object ${what}`);
  for (const [key, text] of map)
    if (typeof text !== "string") fail(path, `${what}: ${JSON.stringify(key)} is not a string`);
  return map as ReadonlyMap<string, string>;
}

const readIndex = async (path: string): Promise<ReadonlyMap<string, string>> =>
  readShardIndex(Object.fromEntries(await readJsonObject(path)), path);

/**
 * The names that a conversion of ours left out because another name has the same tensor; none for other folders.
 *
 * @throws {WeightError} when the record does not fit the tensors
 */
export async function readAliases(
  folder: string,
  tensors: ReadonlyMap<string, unknown>,
): Promise<ReadonlyMap<string, string>> {
  const path = join(folder, metadataName);
  const record = await readJsonObject(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return new Map<string, unknown>();
    throw error;
  });
  const value = record.get("aliases");
  if (value === undefined) return new Map();
  const aliases = strings(path, value, "aliases");
  for (const [alias, name] of aliases) {
    if (tensors.has(alias)) fail(path, `aliases: ${JSON.stringify(alias)} is a tensor of its own`);
    if (!tensors.has(name)) fail(path, `aliases: there is no tensor ${JSON.stringify(name)}`);
  }
  return aliases;
}

/**
 * The index or the one file of the model `modelName` in `folder`.
 *
 * @throws {UsageError} when neither is there
 */
export async function findModel(
  folder: string,
  modelName: string,
  indexOf: (model: string) => string,
): Promise<string> {
  for (const name of [indexOf(modelName), `${modelName}.safetensors`]) {
    const path = join(folder, name);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
      throw error;
    });
    if (found?.isFile()) return path;
  }
  throw new UsageError(
    `${folder} has neither ${indexOf(modelName)} nor ${modelName}.safetensors: name the model with --model_name`,
  );
}
