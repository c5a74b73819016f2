/** Tensors of any size, written and read piece by piece. */
import { assign, bits, type Device, type DType, type Tensor } from "@rot/tensor";
import type { FileDType, TensorSource } from "@rot/tensor/safetensors";

/**
 * Elements of a piece: 32 MiB of 16-bit, 64 MiB of 32-bit ones. Every multiple of it lies where a binding may begin. Random
 * parameters are drawn by the piece, so that another number here would change their values.
 */
export const PIECE = 2 ** 24;

/** Some of a tensor's elements, in row-major order. */
export interface Range {
  /** Counts the ranges of a tensor from 0. */
  readonly index: number;
  readonly begin: number;
  /** Exclusive. */
  readonly end: number;
}

/** The ranges of `count` elements, `piece` at a time. */
export function* ranges(count: number, piece = PIECE): Generator<Range> {
  for (let index = 0, begin = 0; begin < count; index++, begin += piece) {
    yield { index, begin, end: Math.min(begin + piece, count) };
  }
}

/**
 * Writes values over the elements of `target` from `begin` on, in its dtype.
 *
 * @param begin   a multiple of 128
 * @param values  one axis, any dtype
 */
export function copyInto(target: Tensor, begin: number, values: Tensor): void {
  const flat = target.alias([target.size]);
  const part = flat.rows(begin, begin + values.size);
  assign(part, values);
  part.dispose();
  flat.dispose();
}

/** Waits for the device each time that so many bytes have been sent: until then they lie in host memory too. */
export function pacer(device: Device, most = 2 ** 26): (bytes: number) => Promise<void> {
  let sent = 0;
  return async (bytes) => {
    sent += bytes;
    if (sent < most) return;
    sent = 0;
    await device.sync();
  };
}

const spelling = { f32: "F32", f16: "F16", bf16: "BF16", i32: "I32", u32: "U32" } as const satisfies Partial<
  Record<DType, FileDType>
>;

/**
 * A tensor to write into a file, as it is stored on the device; read back piece by piece when its turn comes.
 *
 * @param tensor  of any dtype but bool
 */
export function tensorSource(name: string, tensor: Tensor<keyof typeof spelling>): TensorSource {
  return {
    name,
    dtype: spelling[tensor.dtype],
    shape: tensor.shape,
    data: () => bytesOf(tensor),
  };
}

async function* bytesOf(tensor: Tensor): AsyncGenerator<Uint8Array> {
  for (const { begin, end } of ranges(tensor.size)) yield await readBytes(tensor, begin, end);
}

/** The bytes of some elements as they lie on the device. `begin` is even. */
export async function readBytes(tensor: Tensor, begin = 0, end = tensor.size): Promise<Uint8Array> {
  const each = bits(tensor.dtype) / 8;
  const { storage, offset } = tensor;
  return new Uint8Array(await storage.device.read(storage.buffer, (end - begin) * each, offset + begin * each));
}
