/** Checkpoint folders that transformers loads, written so that nobody ever sees half of one. Node only. */
import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { type Device, type Tensor, UsageError } from "@rot/tensor";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import type { Architecture } from "../weights/architecture.ts";
import type { FloatDType } from "../weights/checkpoint.ts";
import { type InitOptions, randomSources } from "../weights/init.ts";
import { tensorSource } from "../weights/pieces.ts";
import { dealShards, indexFile, writeIndex } from "../weights/shards.ts";

/** What {@link savePretrained} takes besides the weights. */
export interface SaveOptions {
  /** Written to `config.json` as it is. */
  readonly config: object;
  /** A folder from which the files of the tokenizer and the processors are copied, as far as it has them. */
  readonly like?: string;
  /** Bytes of the tensors in one file; 5 GB by default. */
  readonly maxShardBytes?: number;
  /** Takes the place of a folder that is there already; by default only an empty one may be. */
  readonly overwrite?: boolean;
}

/** What else transformers keeps beside weights and config. */
export const companions = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.json",
  "chat_template.jinja",
  "preprocessor_config.json",
  "video_preprocessor_config.json",
  "processor_config.json",
];

/**
 * Writes a model's folder: `config.json`, `model.safetensors` or shards with their index, and copies of the files around
 * them. It is written aside, synced and renamed; on any error nothing is left and what was there still stands. Weights are
 * read from the device piece by piece.
 *
 * @param weights  by state-dict key, in the order in which they are dealt out to shards
 * @throws {UsageError} when the folder is not empty and `overwrite` was not asked for
 */
export async function savePretrained(
  folder: string,
  weights: ReadonlyMap<string, Tensor>,
  options: SaveOptions,
): Promise<void> {
  const sources = [...weights].map(([name, tensor]) => tensorSource(name, tensor as Tensor<FloatDType>));
  await writeFolder(folder, sources, options);
}

/**
 * Writes a model's folder with random weights: equal to saving those of `randomInit`, without room for them anywhere.
 *
 * @param device  draws the numbers
 * @see savePretrained
 */
export async function writeRandomCheckpoint(
  folder: string,
  architecture: Architecture,
  device: Device,
  options: SaveOptions & InitOptions,
): Promise<void> {
  await writeFolder(folder, randomSources(architecture, device, options), options);
}

async function writeFolder(
  folder: string,
  sources: readonly TensorSource[],
  { config, like, maxShardBytes = 5e9, overwrite = false }: SaveOptions,
): Promise<void> {
  const target = resolve(folder);
  await replaceFolder(target, overwrite, async (aside) => {
    if (like !== undefined) {
      for (const name of companions) await copyIfThere(join(like, name), join(aside, name));
    }
    await writeText(join(aside, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
    const shards = dealShards(sources, maxShardBytes);
    for (const { file, tensors } of shards) {
      await writeFileAtomically(join(aside, file), writeSafetensors(tensors, new Map([["format", "pt"]])));
    }
    if (shards.length > 1) await writeText(join(aside, indexFile), writeIndex(shards));
  });
}

/** Runs `fill` on a new folder beside `target`, which then takes its place. */
export async function replaceFolder(
  target: string,
  overwrite: boolean,
  fill: (aside: string) => Promise<void>,
): Promise<void> {
  const held = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (held && held.length > 0 && !overwrite) {
    throw new UsageError(
      `${target}: it holds ${held.length} files already; name another folder, or ask to overwrite it`,
    );
  }
  const parent = dirname(target);
  await mkdir(parent, { recursive: true });
  const stamp = randomUUID();
  const aside = join(parent, `.${basename(target)}.${stamp}.partial`);
  const old = join(parent, `.${basename(target)}.${stamp}.old`);
  await mkdir(aside);
  try {
    await fill(aside);
    await sync(aside);
    if (held) await rename(target, old);
    try {
      await rename(aside, target);
    } catch (error) {
      if (held) await rename(old, target);
      throw error;
    }
    await sync(parent);
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

export async function writeText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, [new TextEncoder().encode(text)]);
}

async function copyIfThere(from: string, to: string): Promise<void> {
  const bytes = await readFile(from).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (bytes) await writeFileAtomically(to, [bytes]);
}

/** Makes the names in a folder last. Windows has no such call for folders. */
async function sync(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  await handle.sync().finally(() => handle.close());
}
