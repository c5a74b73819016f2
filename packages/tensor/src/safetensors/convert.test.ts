import { expect, test } from "vitest";
import { WeightError } from "../errors.ts";
import { deviceDType, toTyped } from "./convert.ts";
import { type FileDType, fileDTypes } from "./file-dtype.ts";

const raw = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** The same bytes at an odd address. */
function shifted(bytes: Uint8Array): Uint8Array {
  const room = new Uint8Array(bytes.length + 1);
  room.set(bytes, 1);
  return room.subarray(1);
}

const direct: readonly [FileDType, ArrayBufferView, ArrayBufferView][] = [
  [
    "F32",
    Float32Array.of(0, -0, 1.5, Number.NaN, Number.NEGATIVE_INFINITY),
    Float32Array.of(0, -0, 1.5, Number.NaN, Number.NEGATIVE_INFINITY),
  ],
  [
    "F64",
    Float64Array.of(0.1, -1e-50, Number.NaN, Number.POSITIVE_INFINITY),
    Float32Array.of(0.1, -0, Number.NaN, Number.POSITIVE_INFINITY),
  ],
  ["F16", Uint16Array.of(0x3c00, 0x7e01), Uint16Array.of(0x3c00, 0x7e01)],
  ["BF16", Uint16Array.of(0x3f80, 0xffff), Uint16Array.of(0x3f80, 0xffff)],
  ["I8", Int8Array.of(-128, 0, 127), Int32Array.of(-128, 0, 127)],
  ["I16", Int16Array.of(-32768, 32767), Int32Array.of(-32768, 32767)],
  ["I32", Int32Array.of(-(2 ** 31), 2 ** 31 - 1), Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
  ["I64", BigInt64Array.of(-(2n ** 31n), -1n, 0n, 2n ** 31n - 1n), Int32Array.of(-(2 ** 31), -1, 0, 2 ** 31 - 1)],
  ["U8", Uint8Array.of(0, 255), Uint32Array.of(0, 255)],
  ["U16", Uint16Array.of(0, 65535), Uint32Array.of(0, 65535)],
  ["U32", Uint32Array.of(0, 2 ** 32 - 1), Uint32Array.of(0, 2 ** 32 - 1)],
  ["U64", BigUint64Array.of(0n, 2n ** 32n - 1n), Uint32Array.of(0, 2 ** 32 - 1)],
  ["BOOL", Uint8Array.of(0, 1, 1), Uint8Array.of(0, 1, 1)],
];

test.for(direct)("%s becomes the device's own elements, at any address", ([dtype, given, data]) => {
  const wanted = { dtype: deviceDType[dtype], data };
  expect(toTyped({ name: "a", dtype }, raw(given))).toEqual(wanted);
  expect(toTyped({ name: "a", dtype }, shifted(raw(given)))).toEqual(wanted);
  expect(toTyped({ name: "a", dtype }, new Uint8Array(0)).data).toHaveLength(0);
});

test("aligned elements of a device dtype are not copied", () => {
  const bytes = new Uint8Array(16);
  expect(toTyped({ name: "a", dtype: "F32" }, bytes.subarray(4)).data.buffer).toBe(bytes.buffer);
});

const outside: readonly [FileDType, ArrayBufferView, message: string][] = [
  ["I64", BigInt64Array.of(0n, 2n ** 31n), "element 1 of I64 is 2147483648, not within 32 bits"],
  ["I64", BigInt64Array.of(-(2n ** 31n) - 1n), "element 0 of I64 is -2147483649, not within 32 bits"],
  ["I64", BigInt64Array.of(2n ** 63n - 1n), "element 0 of I64 is 9223372036854775807, not within 32 bits"],
  ["U64", BigUint64Array.of(1n, 2n ** 32n), "element 1 of U64 is 4294967296, not within 32 bits"],
  ["F64", Float64Array.of(0, -1e39), "element 1 of F64 is -1e+39, not within f32"],
  ["BOOL", Uint8Array.of(0, 2), "element 1 of BOOL is 2, not 0 or 1"],
];

test.for(outside)("%s outside its device dtype names tensor, index and value", ([dtype, given, message]) => {
  const convert = () => toTyped({ name: "w", dtype }, raw(given));
  expect(convert).toThrow(WeightError);
  expect(convert).toThrow(`tensor "w": ${message}`);
});

test("dtypes without a device dtype are refused by name", () => {
  for (const dtype of fileDTypes.filter((name) => !(name in deviceDType))) {
    expect(() => toTyped({ name: "w", dtype }, new Uint8Array(8))).toThrow(
      `tensor "w": no device dtype holds ${dtype}`,
    );
  }
});

test("bytes that are not whole elements are refused", () => {
  expect(() => toTyped({ name: "w", dtype: "F32" }, new Uint8Array(6))).toThrow(
    'tensor "w": 6 bytes are not whole F32 elements',
  );
});
