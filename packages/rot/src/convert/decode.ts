/** Elements of a file as numbers, for comparing. */
import { fromBf16, fromF16, WeightError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";

type Read = (view: DataView, at: number) => number;

/** How an element is read, and its width in bytes. */
const readers: { readonly [D in FileDType]?: readonly [width: number, read: Read] } = {
  F64: [8, (view, at) => view.getFloat64(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F16: [2, (view, at) => fromF16(view.getUint16(at, true))],
  BF16: [2, (view, at) => fromBf16(view.getUint16(at, true))],
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
