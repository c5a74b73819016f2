/** Writes files that `torch.load(weights_only=True)` opens, as a stream. */
import { type FileDType, fileDTypeBits } from "@rot/tensor/safetensors";
import { pickle, type WritableValue } from "./pickle.ts";
import { type EntryToWrite, writeZip } from "./zip-writer.ts";

/** A tensor to save. The same object in several places is one storage in the file: the weights are tied. */
export interface TensorToWrite {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /** The bytes, little-endian, in row-major order; or what gives them when their turn comes. */
  readonly data: Uint8Array | (() => AsyncIterable<Uint8Array>);
}

/**
 * A zip archive as torch ≥ 1.6 writes it, with a pickle of protocol 2: dicts for Maps, lists for arrays, tensors for
 * {@link TensorToWrite}. Equal content gives equal bytes.
 *
 * @throws {UsageError} for a value that a checkpoint cannot hold, and for a tensor that gives too many or too few bytes.
 *   Write to a file that nobody sees until it is whole, as `writeFileAtomically` of `@rot/tensor/safetensors/node` does
 */
export function writeTorchFile(value: WritableValue): AsyncGenerator<Uint8Array> {
  const keys = new Map<TensorToWrite, string>();
  const content = pickle(value, (tensor) => {
    const key = keys.get(tensor) ?? String(keys.size);
    keys.set(tensor, key);
    return key;
  });
  const text = (name: string, data: string): EntryToWrite => ({
    name: `archive/${name}`,
    size: data.length,
    data: new TextEncoder().encode(data),
  });
  return writeZip([
    { name: "archive/data.pkl", size: content.length, data: content },
    text(".format_version", "1"),
    text(".storage_alignment", "64"),
    text("byteorder", "little"),
    ...[...keys].map(([{ dtype, shape, data }, key]) => ({
      name: `archive/data/${key}`,
      size: shape.reduce((product, length) => product * length, fileDTypeBits[dtype] / 8),
      data,
    })),
    text("version", "3\n"),
  ]);
}
