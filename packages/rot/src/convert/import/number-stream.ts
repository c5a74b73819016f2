/** Tensors as streams of numbers, in and out of 16 bits a piece at a time. */
import type { FileDType } from "@rot/tensor/safetensors";
import { Taker } from "../chunks.ts";
import { decode } from "../decode.ts";
import { encode, floatOf } from "./floats.ts";

/** A tensor of a file, little-endian and contiguous, a few MiB at a time. */
export interface NumberStream {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly stream: () => AsyncGenerator<Uint8Array>;
}

/** The same numbers as F32, which holds those of 16 bits exactly. */
export function asF32(tensor: NumberStream): NumberStream {
  const { dtype, shape } = tensor;
  if (dtype === "F32") return tensor;
  const { width } = floatOf(dtype, "a parameter");
  return {
    dtype: "F32",
    shape,
    bytes: (tensor.bytes / width) * 4,
    async *stream() {
      for await (const chunk of tensor.stream()) {
        yield dtype === "BF16" ? widened(chunk) : encode("F32", decode(dtype, chunk), "a parameter");
      }
    },
  };
}

/** The upper halves of f32. */
function widened(chunk: Uint8Array): Uint8Array {
  const words = new Uint32Array(chunk.length / 2);
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint16(2 * i, true) << 16;
  return new Uint8Array(words.buffer);
}

/** Whether numbers of F32, rounded to the dtype of a tensor, are its own. */
export async function roundsTo(wide: NumberStream, tensor: NumberStream): Promise<boolean> {
  const { width } = floatOf(tensor.dtype, "a parameter");
  const numbers = new Taker(wide.stream());
  try {
    for await (const chunk of tensor.stream()) {
      const part = await numbers.take((chunk.length / width) * 4);
      if (!part || Buffer.compare(encode(tensor.dtype, decode("F32", part), "a parameter"), chunk) !== 0) return false;
    }
    return true;
  } finally {
    await numbers.close();
  }
}
