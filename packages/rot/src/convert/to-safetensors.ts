/** A torch checkpoint as a folder of safetensors files, laid out as the reference lays it out. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { WeightError } from "@rot/tensor";
import { writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { type OnProgress, requireSpace, writeFolder } from "./files.ts";
import { openNamed } from "./open-checkpoint.ts";
import { metadataName } from "./safetensors-folder.ts";
import { checkModelName, indexName, parseSize, planShards, shardName } from "./shards.ts";
import { cleanName, findStateDict, groupTied } from "./state-dict.ts";
import { openTorchFile } from "./torch-pickle/reader.ts";
import { bytesOf, countOf } from "./torch-pickle/strided.ts";
import type { TorchTensor } from "./torch-pickle/values.ts";
import { tensorsIn } from "./torch-pickle/walk.ts";
import { TorchFileError } from "./torch-pickle/error.ts";

/** What to convert, and how. Names and defaults are the reference's flags. */
export interface ToSafetensorsOptions {
  /** A `.pt` or `.bin` file of `torch.save`. */
  readonly input: string;
  /** The folder to make. */
  readonly output: string;
  /** The most bytes of tensors in one file, such as `5GB`. */
  readonly maxShardSize?: string;
  /** The first part of the files' names. */
  readonly modelName?: string;
  /** Cut the wrappers' prefixes from the names. */
  readonly cleanKeys?: boolean;
  /** Write tied weights in full under each of their names, as the reference does. Otherwise they are written once. */
  readonly reference?: boolean;
  readonly onProgress?: OnProgress;
}

/** What was written. */
export interface ToSafetensorsResult {
  readonly files: readonly string[];
  /** The file of each tensor. */
  readonly weightMap: ReadonlyMap<string, string>;
  readonly parameters: number;
  readonly bytes: number;
  /** Where the state dict was found: `module` and so on. */
  readonly wrapper: string | undefined;
  /** Names that are not written because another name has the same tensor. */
  readonly aliases: ReadonlyMap<string, string>;
  /** Values of the state dict that are no tensors, and so have no place in a safetensors file. */
  readonly skipped: readonly string[];
}

/**
 * Converts a checkpoint: finds the state dict, cleans its names, and writes it as safetensors, in several files and
 * with an index when it is larger than a shard. Never holds more than a few MiB of it, and the folder appears when it is
 * whole.
 *
 * @throws {TorchFileError} when the input is damaged, hostile or no checkpoint
 * @throws {WeightError} when there is no tensor in it, or cleaning gives two tensors one name
 * @throws {UsageError} for an option that cannot be, or an output that is there already
 */
export async function toSafetensors(options: ToSafetensorsOptions): Promise<ToSafetensorsResult> {
  const { input, output, modelName = "RoT", cleanKeys = true, reference = false, onProgress } = options;
  const limit = parseSize(options.maxShardSize ?? "5GB");
  checkModelName(modelName);
  await using source = await openNamed(input);
  const file = await openTorchFile(source, { name: input });
  const { value, wrapper } = findStateDict(file.value);
  const skipped: string[] = [];
  const named = tensorsIn(
    value,
    (rule, message) => {
      throw new TorchFileError(rule, `${input}: ${message}`);
    },
    (name) => skipped.push(name),
  );
  if (named.length === 0) throw new WeightError(`${input}: no tensors in it`);

  const groups = groupTied(cleanKeys ? named.map(({ name, tensor }) => ({ name: cleanName(name), tensor })) : named);
  const aliases = new Map<string, string>();
  const items = groups.flatMap(({ names, tensor }) => {
    const [first = "", ...others] = names;
    if (!reference) for (const other of others) aliases.set(other, first);
    return (reference ? names : [first]).map((name) => ({ name, tensor, bytes: bytesOf(tensor) }));
  });
  const total = items.reduce((sum, { bytes }) => sum + bytes, 0);
  const parameters = items.reduce((sum, { tensor }) => sum + countOf(tensor.shape), 0);
  const shards = planShards(items, limit);
  const names = shards.map((_, index) => shardName(modelName, index, shards.length));
  const index = shards.length > 1 ? [indexName(modelName)] : [];
  const weightMap = new Map(
    shards.flatMap((entries, shard) => entries.map(({ name }): [string, string] => [name, names[shard] as string])),
  );
  await mkdir(dirname(output), { recursive: true });
  await requireSpace(dirname(output), total);

  let done = 0;
  async function* counted(tensor: TorchTensor): AsyncGenerator<Uint8Array> {
    for await (const chunk of file.stream(tensor)) {
      yield chunk;
      done += chunk.length;
      onProgress?.({ done, total, unit: "bytes" });
    }
  }
  await writeFolder(output, [...names, ...index, metadataName], async (folder) => {
    for (const [shard, entries] of shards.entries()) {
      const tensors = entries.map(({ name, tensor }) => ({
        name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        data: () => counted(tensor),
      }));
      await writeFileAtomically(join(folder, names[shard] as string), writeSafetensors(tensors));
    }
    for (const name of index) {
      await writeJson(join(folder, name), {
        metadata: { total_size: total },
        weight_map: Object.fromEntries(weightMap),
      });
    }
    await writeJson(join(folder, metadataName), {
      source: "DeepSpeed checkpoint",
      original_checkpoint: input,
      conversion_format: "safetensors",
      total_parameters: parameters,
      total_size_bytes: total,
      num_shards: shards.length,
      ...(aliases.size > 0 && { aliases: Object.fromEntries(aliases) }),
    });
  });
  return {
    files: [...names, ...index, metadataName].map((name) => join(output, name)),
    weightMap,
    parameters,
    bytes: total,
    wrapper,
    aliases,
    skipped,
  };
}

/** Indented by two, as the reference's. */
async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, JSON.stringify(value, null, 2), { flush: true });
}
