/** `model.safetensors.index.json`: which tensor is in which file, read and written as transformers does. */
import { size } from "@rot/tensor";
import { fileDTypeBits, type TensorSource } from "@rot/tensor/safetensors";
import { quote, WeightsError } from "./error.ts";

/** The file of a checkpoint in one piece. */
export const singleFile = "model.safetensors";
/** The file that says which tensor is in which of several. */
export const indexFile = "model.safetensors.index.json";

/**
 * The shard of each tensor. Of the metadata nothing is used: the headers of the shards say all that `total_size` could.
 *
 * @param json   the parsed file
 * @param where  what messages call it
 * @throws {WeightsError} when it has no `weight_map`, or a shard's name is not one of a file beside it
 */
export function readIndex(json: unknown, where: string): Map<string, string> {
  const map: unknown = isObject(json) ? json["weight_map"] : undefined;
  if (!isObject(map)) throw new WeightsError(`${where}: it has no "weight_map", an object from tensors to files`);
  const shards = new Map<string, string>();
  for (const [key, shard] of Object.entries(map)) {
    if (typeof shard !== "string") throw new WeightsError(`${where}: the file of ${quote(key)} is no text`);
    const problem = problemOf(shard);
    if (problem) throw new WeightsError(`${where}: the file of ${quote(key)}, ${quote(shard)}, ${problem}`);
    shards.set(key, shard);
  }
  if (shards.size === 0) throw new WeightsError(`${where}: its "weight_map" names no tensor`);
  return shards;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** What keeps a name from being one of a file in the same folder on every system; null when nothing does. */
function problemOf(name: string): string | null {
  // Control characters would end the name early or forge lines of messages.
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(name)) return "has a control character";
  if (/[/\\:]/.test(name)) return "is a path, not the name of a file beside the index";
  if (new TextEncoder().encode(name).length > 255) return "is longer than 255 bytes";
  if (!/^[^.].*\.safetensors$/.test(name)) return "is not the name of a safetensors file";
  return null;
}

/** One file of a checkpoint to be. */
export interface Shard {
  readonly file: string;
  readonly tensors: readonly TensorSource[];
}

/**
 * Deals tensors out to files in their order: a file is closed when the next tensor would make it larger than `maxBytes`,
 * and a tensor larger than that gets a file of its own.
 *
 * @param maxBytes  of the tensors in a file, without its header
 * @see split_torch_state_dict_into_shards in huggingface_hub, serialization/_torch.py
 */
export function dealShards(tensors: Iterable<TensorSource>, maxBytes: number): Shard[] {
  const files: TensorSource[][] = [];
  let open: TensorSource[] = [];
  let filled = 0;
  for (const source of tensors) {
    const bytes = bytesIn(source);
    if (bytes > maxBytes) {
      files.push([source]);
      continue;
    }
    if (filled + bytes > maxBytes) {
      files.push(open);
      open = [];
      filled = 0;
    }
    open.push(source);
    filled += bytes;
  }
  if (open.length > 0) files.push(open);
  if (files.length <= 1) return [{ file: singleFile, tensors: files[0] ?? [] }];
  const digits = (n: number): string => String(n).padStart(5, "0");
  return files.map((own, at) => ({
    file: `model-${digits(at + 1)}-of-${digits(files.length)}.safetensors`,
    tensors: own,
  }));
}

const elementsIn = ({ shape }: TensorSource): number => size(shape);
const bytesIn = (source: TensorSource): number => (elementsIn(source) * fileDTypeBits[source.dtype]) / 8;

/** The text of the index of several shards. */
export function writeIndex(shards: readonly Shard[]): string {
  const all = shards.flatMap(({ file, tensors }) => tensors.map((source) => ({ file, source })));
  const sum = (of: (source: TensorSource) => number): number =>
    all.reduce((total, { source }) => total + of(source), 0);
  const names = all.map(({ file, source }) => [source.name, file] as const).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const index = {
    metadata: { total_parameters: sum(elementsIn), total_size: sum(bytesIn) },
    weight_map: Object.fromEntries(names),
  };
  return `${JSON.stringify(index, null, 2)}\n`;
}
