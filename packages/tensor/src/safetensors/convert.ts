/** From the bytes of a file to arrays of the device's dtypes. */

import type { DType } from "../dtype.ts";
import { UsageError } from "../errors.ts";
import { quote, SafetensorsError } from "./error.ts";
import { type FileDType, fileDTypeBits } from "./file-dtype.ts";
import type { TensorEntry } from "./header.ts";

/** Elements ready for the device; f16 and bf16 as their raw 16 bits. */
export type TypedElements =
  | { readonly dtype: "f32"; readonly data: Float32Array }
  | { readonly dtype: "f16" | "bf16"; readonly data: Uint16Array }
  | { readonly dtype: "i32"; readonly data: Int32Array }
  | { readonly dtype: "u32"; readonly data: Uint32Array }
  | { readonly dtype: "bool"; readonly data: Uint8Array };

/** The device dtype that holds the elements of a file dtype; those left out have none. */
export const deviceDType: { readonly [D in FileDType]?: DType } = {
  F32: "f32",
  F64: "f32",
  F16: "f16",
  BF16: "bf16",
  I8: "i32",
  I16: "i32",
  I32: "i32",
  I64: "i32",
  U8: "u32",
  U16: "u32",
  U32: "u32",
  U64: "u32",
  BOOL: "bool",
};

type Entry = Pick<TensorEntry, "name" | "dtype">;

/**
 * The elements of a tensor as the device takes them. F32, F16, BF16, I32, U32 and BOOL are views of `bytes` where it is
 * aligned; F64 is rounded to f32; the other integers become i32 or u32.
 *
 * @param entry names the tensor in messages and says how `bytes` are to be read
 * @param bytes whole elements, little-endian
 * @throws {SafetensorsError} naming tensor, index and value: an integer outside 32 bits, a finite F64 beyond f32, a
 *   BOOL neither 0 nor 1; and for a dtype without a device dtype
 * @throws {UsageError} on a big-endian machine
 */
export function toTyped(entry: Entry, bytes: Uint8Array): TypedElements {
  if (!littleEndian) throw new UsageError("safetensors files are little-endian, and this machine is not");
  if (bytes.length % Math.ceil(fileDTypeBits[entry.dtype] / 8) !== 0) {
    throw new SafetensorsError(
      "size",
      `tensor ${quote(entry.name)}: ${bytes.length} bytes are not whole ${entry.dtype} elements`,
    );
  }
  switch (entry.dtype) {
    case "F32":
      return { dtype: "f32", data: view(Float32Array, bytes) };
    case "F64":
      return { dtype: "f32", data: narrowDoubles(entry, view(Float64Array, bytes)) };
    case "F16":
      return { dtype: "f16", data: view(Uint16Array, bytes) };
    case "BF16":
      return { dtype: "bf16", data: view(Uint16Array, bytes) };
    case "I8":
      return { dtype: "i32", data: Int32Array.from(view(Int8Array, bytes)) };
    case "I16":
      return { dtype: "i32", data: Int32Array.from(view(Int16Array, bytes)) };
    case "I32":
      return { dtype: "i32", data: view(Int32Array, bytes) };
    case "I64":
      return {
        dtype: "i32",
        data: narrow(entry, view(Int32Array, bytes), (low) => low >> 31, view(BigInt64Array, bytes)),
      };
    case "U8":
      return { dtype: "u32", data: Uint32Array.from(bytes) };
    case "U16":
      return { dtype: "u32", data: Uint32Array.from(view(Uint16Array, bytes)) };
    case "U32":
      return { dtype: "u32", data: view(Uint32Array, bytes) };
    case "U64":
      return { dtype: "u32", data: narrow(entry, view(Uint32Array, bytes), () => 0, view(BigUint64Array, bytes)) };
    case "BOOL":
      return { dtype: "bool", data: checkBooleans(entry, bytes) };
    default:
      throw new SafetensorsError("conversion", `tensor ${quote(entry.name)}: no device dtype holds ${entry.dtype}`);
  }
}

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

interface Elements<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): A;
}

/** `bytes` as an array of wider elements; a copy only when they do not lie on an element's boundary. */
function view<A>(Type: Elements<A>, bytes: Uint8Array): A {
  const aligned = bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new Type(aligned.buffer, aligned.byteOffset, aligned.length / Type.BYTES_PER_ELEMENT);
}

function outside({ name, dtype }: Entry, index: number, value: number | bigint | undefined, wanted: string): never {
  throw new SafetensorsError(
    "conversion",
    `tensor ${quote(name)}: element ${index} of ${dtype} is ${value}, not ${wanted}`,
  );
}

function narrowDoubles(entry: Entry, wide: Float64Array): Float32Array {
  const data = Float32Array.from(wide);
  wide.forEach((value, index) => {
    if (Number.isFinite(value) && !Number.isFinite(data[index])) outside(entry, index, value, "within f32");
  });
  return data;
}

/** 64-bit integers as the lower of their two words, when the upper one is what `upper` expects of it. */
function narrow<A extends Int32Array | Uint32Array>(
  entry: Entry,
  words: A,
  upper: (low: number) => number,
  wide: BigInt64Array | BigUint64Array,
): A {
  const data = words.filter((_, index) => index % 2 === 0) as A;
  data.forEach((low: number, index: number) => {
    if (words[2 * index + 1] !== upper(low)) outside(entry, index, wide[index], "within 32 bits");
  });
  return data;
}

function checkBooleans(entry: Entry, bytes: Uint8Array): Uint8Array {
  const index = bytes.findIndex((byte) => byte > 1);
  return index < 0 ? bytes : outside(entry, index, bytes[index], "0 or 1");
}
