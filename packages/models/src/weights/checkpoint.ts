/** Named tensors that are still in files, and how they get to the device. */
import { type Device, type DType, keep, scope, type Tensor, tensor, untaped } from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import { type FileDType, fileDTypeBits, type Safetensors, type TensorEntry, toTyped } from "@rot/tensor/safetensors";
import { type Architecture, checkKeys } from "./architecture.ts";
import { WeightsError } from "./error.ts";
import { copyInto, pacer, ranges } from "./pieces.ts";

/** A dtype that parameters are kept in. */
export type FloatDType = Extract<DType, "f32" | "f16" | "bf16">;

/** Tensors in one or several open safetensors files. */
export interface Checkpoint {
  /** A name for messages: a folder or file. */
  readonly name: string;
  /** What the checkpoint holds, in the order in which it is best read. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
}

/** One tensor of a checkpoint, and the file that it is in. */
export interface CheckpointTensor {
  readonly entry: TensorEntry;
  readonly file: Safetensors;
}

/** What {@link loadCheckpoint} takes besides the checkpoint. */
export interface LoadOptions {
  /** The dtype of every parameter on the device; by default each as it is stored, and F64 as f32. */
  readonly dtype?: FloatDType;
  /** Keys that the checkpoint may hold though the model does not read them; see `compareKeys`. */
  readonly ignored?: readonly string[];
  /** Called after every tensor, with the bytes read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

/** The dtypes that a parameter may be stored in, and what holds them on the device. */
const stored: { readonly [D in FileDType]?: FloatDType } = { F64: "f32", F32: "f32", F16: "f16", BF16: "bf16" };
/** Bytes that are read and sent at a time. Larger pieces are slower: each asks the system for memory anew. */
const PIECE_BYTES = 2 ** 22;

/**
 * The parameters of a model on the device. Tensors are read piece by piece, so that the host needs little memory besides,
 * however large a tensor or the model is.
 *
 * @returns  the tensors by key, in the model's order and in no scope
 * @throws {WeightsError} before anything is read, when the keys or shapes are not the model's, or a dtype is no float
 * @throws {SafetensorsError} when a file comes up short, or an F64 is beyond f32
 * @throws {OutOfMemoryError | DeviceLostError}
 */
export async function loadCheckpoint(
  checkpoint: Checkpoint,
  architecture: Architecture,
  device: Device,
  { dtype, ignored, onProgress }: LoadOptions = {},
): Promise<Map<string, Tensor>> {
  const shapes = new Map([...checkpoint.tensors].map(([key, { entry }]) => [key, entry.shape]));
  checkKeys(architecture, shapes, checkpoint.name, ignored);
  const wanted = [...checkpoint.tensors].filter(([key]) => architecture.parameters.has(key));
  const total = wanted.reduce((sum, [, { entry }]) => sum + entry.end - entry.begin, 0);
  const own = wanted.map(([key, { entry }]) => {
    const found = stored[entry.dtype];
    if (found) return found;
    const message = `${checkpoint.name}: ${key} is stored as ${entry.dtype}; a parameter is BF16, F16, F32 or F64`;
    throw new WeightsError(message);
  });

  const loaded = new Map<string, Tensor>();
  const pace = pacer(device);
  let read = 0;
  try {
    for (const [at, [key, { entry, file }]] of wanted.entries()) {
      const { shape } = entry;
      const target = keep(emptyTensor(device, { shape, dtype: dtype ?? (own[at] as FloatDType) }, "weights"));
      loaded.set(key, target);
      if (device.computes) await fill(target, entry, file, pace);
      read += entry.end - entry.begin;
      onProgress?.(read, total);
    }
    await device.sync();
  } catch (error) {
    for (const made of loaded.values()) made.dispose();
    throw error;
  }
  return new Map([...architecture.parameters.keys()].map((key) => [key, loaded.get(key) as Tensor]));
}

/** Reads a tensor of a file into `target`, cast to its dtype. */
async function fill(
  target: Tensor,
  entry: TensorEntry,
  file: Safetensors,
  pace: (bytes: number) => Promise<void>,
): Promise<void> {
  const each = fileDTypeBits[entry.dtype] / 8;
  for (const { begin, end } of ranges(target.size, PIECE_BYTES / each)) {
    const bytes = await file.readRange(entry.name, begin * each, end * each);
    const { data, dtype } = toTyped(entry, bytes);
    if (dtype === target.dtype && data.byteLength % 4 === 0) {
      const { storage } = target;
      storage.device.upload(
        storage.buffer,
        data as typeof data & { buffer: ArrayBuffer },
        begin * data.BYTES_PER_ELEMENT,
      );
    } else {
      const make = () => copyInto(target, begin, tensor(target.device, data, { shape: [end - begin], dtype }));
      scope(() => untaped(make));
    }
    await pace(bytes.length);
  }
}
