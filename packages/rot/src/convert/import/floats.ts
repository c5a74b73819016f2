/** Floats of files, in and out of 16 bits, on the host. */
import { fromBf16, fromF16, toBf16, toF16, WeightError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";

/** A float of a file: its width in bytes, and what is nearest to a number, as a number and as its bits. */
interface Float {
  readonly width: number;
  readonly round: (x: number) => number;
  readonly write: (view: DataView, at: number, x: number) => void;
}

const floats: { readonly [D in FileDType]?: Float } = {
  F64: { width: 8, round: (x) => x, write: (view, at, x) => view.setFloat64(at, x, true) },
  F32: { width: 4, round: Math.fround, write: (view, at, x) => view.setFloat32(at, x, true) },
  F16: { width: 2, round: (x) => fromF16(toF16(x)), write: (view, at, x) => view.setUint16(at, toF16(x), true) },
  BF16: { width: 2, round: (x) => fromBf16(toBf16(x)), write: (view, at, x) => view.setUint16(at, toBf16(x), true) },
};

/** @throws {WeightError} for a dtype that no parameter has */
export function floatOf(dtype: FileDType, what: string): Float {
  const float = floats[dtype];
  if (!float) throw new WeightError(`${what} is stored as ${dtype}; a parameter is BF16, F16, F32 or F64`);
  return float;
}

/** Numbers as the bytes of a file, each rounded to the nearest. */
export function encode(dtype: FileDType, values: ArrayLike<number>, what: string): Uint8Array {
  const { width, write } = floatOf(dtype, what);
  const bytes = new Uint8Array(values.length * width);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) write(view, i * width, values[i] as number);
  return bytes;
}
