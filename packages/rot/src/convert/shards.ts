/** How tensors are cut into files of a size that people can handle. */
import { UsageError } from "@rot/tensor";

const units: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["b", 1],
  ...["k", "m", "g", "t"].flatMap((letter, index): [string, number][] => [
    [`${letter}b`, 1024 ** (index + 1)],
    [`${letter}ib`, 1024 ** (index + 1)],
  ]),
]);

/**
 * Bytes of `5GB`, `5GiB`, `1.5 mb` or `1000`. As in the reference, GB and GiB are both 1024³ bytes.
 *
 * @throws {UsageError} for any other text, and for less than one byte
 */
export function parseSize(text: string): number {
  const [, amount, unit] = /^\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(amount) * (units.get(unit?.toLowerCase() ?? "") ?? Number.NaN));
  if (Number.isSafeInteger(bytes) && bytes >= 1) return bytes;
  throw new UsageError(`${JSON.stringify(text)} is not a size: write 5GB, 5GiB, 500MB or a number of bytes`);
}

/**
 * Cuts items into shards: by falling size, each shard filled until the next item would not fit. An item larger than
 * the limit gets a shard of its own.
 *
 * @param limit bytes
 */
export function planShards<T extends { readonly bytes: number }>(items: readonly T[], limit: number): T[][] {
  const shards: T[][] = [];
  let filled = 0;
  for (const item of items.toSorted((a, b) => b.bytes - a.bytes)) {
    const last = shards.at(-1);
    if (last && filled + item.bytes <= limit) {
      last.push(item);
      filled += item.bytes;
    } else {
      shards.push([item]);
      filled = item.bytes;
    }
  }
  return shards;
}

/** `RoT.safetensors` alone, or `RoT-00001-of-00003.safetensors`. */
export function shardName(model: string, index: number, count: number): string {
  const five = (value: number): string => String(value).padStart(5, "0");
  return count === 1 ? `${model}.safetensors` : `${model}-${five(index + 1)}-of-${five(count)}.safetensors`;
}

/** The index of a model in several files. */
export const indexName = (model: string): string => `${model}.safetensors.index.json`;

/**
 * A model's name becomes part of file names.
 *
 * @throws {UsageError} for one that could leave the folder
 */
export function checkModelName(model: string): void {
  // oxlint-disable-next-line no-control-regex
  if (model !== "" && !/[/\\:\u0000-\u001f]/.test(model) && model !== "." && model !== ".." && model.length <= 200)
    return;
  throw new UsageError(`${JSON.stringify(model)} cannot be part of a file name: choose another --model_name`);
}
