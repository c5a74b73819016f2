/** Torch's names of element types, and safetensors'. */
import type { FileDType } from "@rot/tensor/safetensors";

/** Storage classes of the module `torch`, one a dtype. */
export const storageTypes: ReadonlyMap<string, FileDType> = new Map([
  ["FloatStorage", "F32"],
  ["DoubleStorage", "F64"],
  ["HalfStorage", "F16"],
  ["BFloat16Storage", "BF16"],
  ["LongStorage", "I64"],
  ["IntStorage", "I32"],
  ["ShortStorage", "I16"],
  ["CharStorage", "I8"],
  ["ByteStorage", "U8"],
  ["BoolStorage", "BOOL"],
]);

/** `torch.<name>` of each dtype that a file can hold. */
export const torchDTypes: ReadonlyMap<string, FileDType> = new Map([
  ["float32", "F32"],
  ["float64", "F64"],
  ["float16", "F16"],
  ["bfloat16", "BF16"],
  ["int64", "I64"],
  ["int32", "I32"],
  ["int16", "I16"],
  ["int8", "I8"],
  ["uint8", "U8"],
  ["uint16", "U16"],
  ["uint32", "U32"],
  ["uint64", "U64"],
  ["bool", "BOOL"],
  ["float8_e4m3fn", "F8_E4M3"],
  ["float8_e5m2", "F8_E5M2"],
  ["float8_e4m3fnuz", "F8_E4M3FNUZ"],
  ["float8_e5m2fnuz", "F8_E5M2FNUZ"],
]);

/** The other direction: `BF16` to `BFloat16Storage`. */
export const storageTypeOf: ReadonlyMap<FileDType, string> = new Map(
  [...storageTypes].map(([name, dtype]) => [dtype, name]),
);

/** The other direction: `BF16` to `bfloat16`. */
export const torchDTypeOf: ReadonlyMap<FileDType, string> = new Map(
  [...torchDTypes].map(([name, dtype]) => [dtype, name]),
);
