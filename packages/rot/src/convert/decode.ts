/** Elements of a file as numbers, for comparing. */
import { WeightError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";

const half = (bits: number): number => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
};
const word = new DataView(new ArrayBuffer(4));
const brain = (bits: number): number => {
  word.setUint16(0, bits);
  return word.getFloat32(0);
};

type Read = (view: DataView, at: number) => number;

/** How an element is read, and its width in bytes. */
const readers: { readonly [D in FileDType]?: readonly [width: number, read: Read] } = {
  F64: [8, (view, at) => view.getFloat64(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F16: [2, (view, at) => half(view.getUint16(at, true))],
  BF16: [2, (view, at) => brain(view.getUint16(at, true))],
  I64: [8, (view, at) => Number(view.getBigInt64(at, true))],
  I32: [4, (view, at) => view.getInt32(at, true)],
  I16: [2, (view, at) => view.getInt16(at, true)],
  I8: [1, (view, at) => view.getInt8(at)],
  U64: [8, (view, at) => Number(view.getBigUint64(at, true))],
  U32: [4, (view, at) => view.getUint32(at, true)],
  U16: [2, (view, at) => view.getUint16(at, true)],
  U8: [1, (view, at) => view.getUint8(at)],
  BOOL: [1, (view, at) => view.getUint8(at)],
};

/**
 * Whole elements as numbers; 64-bit integers are rounded.
 *
 * @throws {WeightError} for a dtype of less than a byte, or of eight-bit floats
 */
export function decode(dtype: FileDType, bytes: Uint8Array): Float64Array {
  const [width, read] = readers[dtype] ?? [];
  if (width === undefined || read === undefined) throw new WeightError(`values of ${dtype} cannot be compared`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: bytes.length / width }, (_, index) => read(view, index * width));
}
