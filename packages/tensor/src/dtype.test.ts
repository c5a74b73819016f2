import fc from "fast-check";
import { expect, test } from "vitest";
import {
  bits,
  byteLength,
  type DType,
  dtypes,
  fromBf16,
  fromF16,
  isFloat,
  promote,
  scalarType,
  toBf16,
  toF16,
} from "./dtype.ts";

interface Format {
  readonly name: string;
  readonly to: (x: number) => number;
  readonly from: (half: number) => number;
  readonly exponentBits: number;
  readonly fractionBits: number;
}

const formats: readonly Format[] = [
  { name: "f16", to: toF16, from: fromF16, exponentBits: 5, fractionBits: 10 },
  { name: "bf16", to: toBf16, from: fromBf16, exponentBits: 8, fractionBits: 7 },
];

const every = Array.from({ length: 0x10000 }, (_, code) => code);

/** The code of infinity; above it, up to the sign bit, lie the NaNs. */
const infinity = ({ exponentBits, fractionBits }: Format): number => ((1 << exponentBits) - 1) << fractionBits;

/** What IEEE 754 says that a finite positive code is worth; exact in f64. */
function worth({ exponentBits, fractionBits }: Format, code: number): number {
  const bias = (1 << (exponentBits - 1)) - 1;
  const exponent = code >> fractionBits;
  const fraction = (code % (1 << fractionBits)) / (1 << fractionBits);
  return exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
}

const float = new Float32Array(1);
const word = new Int32Array(float.buffer);

/** The f32 that lies `steps` from a positive `x`. */
function neighbour(x: number, steps: number): number {
  float[0] = x;
  word[0] = (word[0] ?? 0) + steps;
  return float[0];
}

test.for(formats)("every finite code of $name is worth what IEEE 754 says, with either sign", (format) => {
  const wrong = every.slice(0, infinity(format)).filter((code) => {
    const value = worth(format, code);
    return !Object.is(format.from(code), value) || !Object.is(format.from(code | 0x8000), -value);
  });
  expect(wrong).toEqual([]);
});

test.for(formats)("all 65,536 codes of $name come back as they were, and NaN as NaN", (format) => {
  const wrong = every.filter((code) => {
    const value = format.from(code);
    const isNaNCode = (code & 0x7fff) > infinity(format);
    if (Number.isNaN(value) !== isNaNCode) return true;
    const back = format.to(value);
    return isNaNCode ? (back & 0x7fff) <= infinity(format) : back !== code;
  });
  expect(wrong).toEqual([]);
});

test.for(formats)(
  "halfway between two neighbours $name rounds to the even one, and beside it to the nearer",
  (format) => {
    const wrong = every.slice(0, infinity(format)).filter((code) => {
      // The code after the largest finite one is infinity, which rounds as if it were the next power of two.
      const next = code + 1 === infinity(format) ? 2 ** (1 << (format.exponentBits - 1)) : worth(format, code + 1);
      const middle = (worth(format, code) + next) / 2;
      const even = code % 2 === 0 ? code : code + 1;
      const rounded = [middle, neighbour(middle, -1), neighbour(middle, 1)];
      const wanted = [even, code, code + 1];
      return rounded.some(
        (x, index) => format.to(x) !== wanted[index] || format.to(-x) !== ((wanted[index] ?? 0) | 0x8000),
      );
    });
    expect(wrong).toEqual([]);
  },
);

test.for(formats)("every power of two beyond the largest $name becomes infinity", (format) => {
  const beyond = Array.from({ length: 1025 }, (_, exponent) => 2 ** exponent).filter(
    (x) => x > worth(format, infinity(format) - 1),
  );
  for (const x of beyond)
    expect([x, format.to(x), format.to(-1.75 * x)]).toEqual([x, infinity(format), infinity(format) | 0x8000]);
});

test.for(formats)("any f32 becomes the nearest $name", (format) => {
  const largest = worth(format, infinity(format) - 1);
  fc.assert(
    fc.property(fc.float({ noNaN: true, min: -Math.fround(largest), max: Math.fround(largest) }), (x) => {
      const code = format.to(x);
      const magnitude = code & 0x7fff;
      const error = Math.abs(worth(format, magnitude) - Math.abs(x));
      for (const other of [magnitude - 1, magnitude + 1]) {
        if (other < 0 || other >= infinity(format)) continue;
        expect(Math.abs(worth(format, other) - Math.abs(x))).toBeGreaterThanOrEqual(error);
      }
      expect(code >> 15).toBe(Object.is(x, -0) || x < 0 ? 1 : 0);
    }),
    { seed: 1, numRuns: 5000 },
  );
});

/** Codes by numpy 2.4 (f16) and by hand from the bits (bf16). */
const known: readonly [x: number, f16: number, bf16: number][] = [
  [0, 0x0000, 0x0000],
  [-0, 0x8000, 0x8000],
  [1, 0x3c00, 0x3f80],
  [-2, 0xc000, 0xc000],
  [0.1, 0x2e66, 0x3dcd],
  [Math.PI, 0x4248, 0x4049],
  [65504, 0x7bff, 0x4780],
  [65519.996, 0x7bff, 0x4780],
  [65520, 0x7c00, 0x4780],
  [-65520, 0xfc00, 0xc780],
  [65536, 0x7c00, 0x4780],
  [100000, 0x7c00, 0x47c3],
  [131008, 0x7c00, 0x4800],
  [2 ** -14, 0x0400, 0x3880],
  [2 ** -24, 0x0001, 0x3380],
  [2 ** -25, 0x0000, 0x3300],
  [2 ** -25 + 2 ** -48, 0x0001, 0x3300],
  [1.5 * 2 ** -24, 0x0002, 0x33c0],
  [2 ** -149, 0x0000, 0x0000],
  [2 ** -133, 0x0000, 0x0001],
  [3.3895313892515355e38, 0x7c00, 0x7f7f],
  [3.4028234663852886e38, 0x7c00, 0x7f80],
  [1e300, 0x7c00, 0x7f80],
  [Number.POSITIVE_INFINITY, 0x7c00, 0x7f80],
  [Number.NEGATIVE_INFINITY, 0xfc00, 0xff80],
  [Number.NaN, 0x7e00, 0x7fc0],
];

test.for(known)("%d has the codes that other libraries give it", ([x, f16, bf16]) => {
  expect([toF16(x), toBf16(x)]).toEqual([f16, bf16]);
});

/** `torch.promote_types`, row by row in the order of `dtypes`; where PyTorch refuses u32, our own rule stands. */
const promotions: Readonly<Record<DType, readonly DType[]>> = {
  f32: ["f32", "f32", "f32", "f32", "f32", "f32"],
  f16: ["f32", "f16", "f32", "f16", "f16", "f16"],
  bf16: ["f32", "f32", "bf16", "bf16", "bf16", "bf16"],
  i32: ["f32", "f16", "bf16", "i32", "i32", "i32"],
  u32: ["f32", "f16", "bf16", "i32", "u32", "u32"],
  bool: ["f32", "f16", "bf16", "i32", "u32", "bool"],
};

test.for(dtypes)("%s meets every dtype as in PyTorch", (dtype) => {
  expect(dtypes.map((other) => promote(dtype, other))).toEqual(promotions[dtype]);
  expect(dtypes.map((other) => promote(other, dtype))).toEqual(promotions[dtype]);
});

test("sizes on the device are whole 32-bit words", () => {
  expect(dtypes.map((dtype) => bits(dtype))).toEqual([32, 16, 16, 32, 32, 32]);
  expect([0, 1, 2, 3].map((count) => byteLength("bf16", count))).toEqual([0, 4, 4, 8]);
  expect([0, 1, 2, 3].map((count) => byteLength("bool", count))).toEqual([0, 4, 8, 12]);
  // Above 2³¹, where bit operations would wrap.
  expect(byteLength("f16", 2 ** 31 + 1)).toBe(2 ** 32 + 4);
});

test("floats are computed in f32, the others in their own kind", () => {
  expect(dtypes.filter(isFloat)).toEqual(["f32", "f16", "bf16"]);
  expect(dtypes.map(scalarType)).toEqual(["f32", "f32", "f32", "i32", "u32", "u32"]);
});
