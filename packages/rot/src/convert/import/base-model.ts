/// <reference lib="esnext.disposable" preserve="true" />
/** The model that a checkpoint goes on, seen as files: nothing of it is loaded. */
import { join, resolve } from "node:path";
import { describeModel, type Description, type Tokenizer } from "@rot/models";
import { type CheckpointFolder, loadTokenizer, openCheckpoint, readJson } from "@rot/models/node";
import { UsageError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";
import type { BaseRecord } from "../../bundle/config.ts";
import { configHash, weightsHash } from "../../bundle/node/fingerprint.ts";
import { isThere } from "../../node/paths.ts";
import { CHUNK_BYTES } from "../torch-pickle/strided.ts";

/** An open model folder. Close it, or declare it with `await using`. */
export interface BaseModel extends AsyncDisposable {
  readonly folder: string;
  readonly record: BaseRecord;
  readonly description: Description;
  readonly tokenizer: Tokenizer;
  readonly checkpoint: CheckpointFolder;
}

/**
 * Opens a model's folder.
 *
 * @throws {UsageError} when there is none
 * @throws {ConfigError | WeightsError | TokenizerError} for a damaged one
 */
export async function openBase(path: string): Promise<BaseModel> {
  const folder = resolve(path);
  const file = join(folder, "config.json");
  if (!(await isThere(file))) {
    throw new UsageError(`${path} is no model (no config.json): name the folder of the base model`);
  }
  const description = describeModel(await readJson(file), file);
  const tokenizer = await loadTokenizer(folder);
  const checkpoint = await openCheckpoint(folder);
  try {
    const record = { path: folder, config: configHash(description), weights: await weightsHash(checkpoint) };
    const close = (): Promise<void> => checkpoint.close();
    return { folder, record, description, tokenizer, checkpoint, [Symbol.asyncDispose]: close };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** A tensor of some safetensors files, as its bytes come. */
export interface StoredTensor {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** Bytes `begin` to `end`, all of them by default, a few MiB at a time. */
  readonly stream: (begin?: number, end?: number) => AsyncGenerator<Uint8Array>;
}

/** The tensor of a folder. @throws {UsageError} when it has none of this name */
export function storedTensor({ tensors, name: where }: CheckpointFolder, name: string): StoredTensor {
  const found = tensors.get(name);
  if (!found) throw new UsageError(`${where} has no tensor ${name}`);
  const { entry, file } = found;
  const bytes = entry.end - entry.begin;
  return {
    dtype: entry.dtype,
    shape: entry.shape,
    bytes,
    async *stream(begin = 0, end = bytes) {
      for (let at = begin; at < end; at += CHUNK_BYTES) {
        yield await file.readRange(name, at, Math.min(at + CHUNK_BYTES, end));
      }
    },
  };
}
