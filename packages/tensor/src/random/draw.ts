/** Tensors of random numbers, made on the device. Element `i` depends on the key and on `i` alone. */
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError, UsageError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineKernel, type Scalar } from "../kernel.ts";
import { cast } from "../ops/cast.ts";
import { scope } from "../scope.ts";
import { checkShape, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { erf, inverseErf } from "./erf.ts";
import { key, keyUniforms, type RandomKey, type Seed } from "./key.ts";
import { philoxFunctions } from "./philox.wgsl.ts";

/** What every tensor of random numbers takes. */
export interface DrawOptions {
  /** A number, or a key: the same one gives the same tensor. */
  readonly seed: Seed;
  /** f32 by default. A 16-bit float is the f32 one rounded. */
  readonly dtype?: DType;
}

/** A word as a number in [0, 1): its upper 24 bits, all of which f32 can hold. */
const unitFunction = `
  fn unit(words: vec4u) -> vec4f { return vec4f(words >> vec4u(8u)) * 0x1p-24; }`;

/**
 * A kernel whose every invocation makes one Philox block into `each` elements.
 *
 * @param form  whether the elements are floats, or words as they are stored
 * @param body  WGSL functions with `values(words: vec4u)`, which gives a vector of `each` elements
 */
function drawing<const U extends Readonly<Record<string, Scalar>>>(
  name: string,
  each: 2 | 4,
  form: "scalar" | "words",
  own: U,
  body: string,
) {
  const kernel = defineKernel({
    name,
    inputs: [],
    outputs: ["y"],
    uniforms: { n: "u32", blocks: "u32", ...keyUniforms, ...own } as Readonly<Record<string, Scalar>>,
    knobs: {},
    forms: () => ({ y: form }),
    source: (bindings) => wgsl`
      ${bindings}
      ${philoxFunctions}
      ${unitFunction}
      ${body}
      ${main(64)}
        let block = group * 64u + lane;
        if (block >= u.blocks) { return; }
        let made = values(philox(vec4u(block, u.sample, u.step, 0u), vec2u(u.key0, u.key1)));
        for (var k = 0u; k < ${each}u; k++) {
          let i = block * ${each}u + k;
          if (i < u.n) { store_y(i, made[k]); }
        }
      }`,
    grid: ({ blocks }) => Math.ceil((blocks as number) / 64),
  });
  return (
    device: Device,
    shape: Shape,
    dtype: DType,
    { uniforms }: RandomKey,
    numbers: { readonly [N in keyof U]: number },
  ): Tensor => {
    checkShape(shape, name);
    const n = size(shape);
    const all = { n, blocks: Math.ceil(n / each), ...uniforms, ...numbers };
    return kernel({}, { y: { shape, dtype } }, all, { device }).y;
  };
}

const drawUniform = drawing(
  "rand",
  4,
  "scalar",
  { low: "f32", width: "f32" },
  `fn values(words: vec4u) -> vec4f { return u.low + u.width * unit(words); }`,
);

/**
 * Uniform numbers in [from, to), in steps of 2⁻²⁴ of the width; rounding may give `to` itself unless the range is [0, 1) in f32.
 *
 * @returns a tensor of `shape`
 * @throws {ShapeError} when the dtype is no float, or an axis no length
 */
export function rand(
  device: Device,
  shape: Shape,
  { seed, dtype = "f32", from = 0, to = 1 }: DrawOptions & { readonly from?: number; readonly to?: number },
): Tensor {
  checkFloat(dtype, "rand");
  return drawUniform(device, shape, dtype, key(seed), { low: from, width: to - from });
}

/**
 * `turn(t) -> vec2f`: cosine and sine of 2πt for t in [0, 1). The built-in ones may be wrong in the fourth digit. What is
 * over a whole number of quarters is exact, and its series need few terms.
 *
 * @see Abramowitz & Stegun 4.3.65, 4.3.66
 */
const turnFunction = `
  fn turn(t: f32) -> vec2f {
    let quarter = round(4.0 * t);
    let a = (4.0 * t - quarter) * 1.5707963267948966;
    let s = a * a;
    let c = 1.0 + s * (-0.5 + s * (0.041666667 + s * (-0.0013888889 + s * 0.000024801587)));
    let d = a * (1.0 + s * (-0.16666667 + s * (0.0083333333 + s * (-0.00019841270 + s * 0.0000027557319))));
    let turned = select(vec2f(c, d), vec2f(-d, c), (u32(quarter) & 1u) == 1u);
    return select(turned, -turned, (u32(quarter) & 2u) == 2u);
  }`;

// Words 0 and 1 give two numbers, words 2 and 3 two more. All 32 bits make the radius, so that tails reach 6.7; the
// maximum holds off a logarithm that an adapter rounds above 0.
const drawNormal = drawing(
  "randn",
  4,
  "scalar",
  { mean: "f32", deviation: "f32" },
  `${turnFunction}
   fn values(words: vec4u) -> vec4f {
     let radius = sqrt(max(-2.0 * log(vec2f(words.xz) * 0x1p-32 + 0x1p-33), vec2f(0.0)));
     let turns = unit(words).yw;
     return u.mean + u.deviation * vec4f(radius.x * turn(turns.x), radius.y * turn(turns.y));
   }`,
);

/**
 * Normal numbers, by Box and Muller's transform: the same bits on one adapter, nearly the same on another.
 *
 * @returns a tensor of `shape`
 * @throws {ShapeError} when the dtype is no float, or an axis no length
 * @see Box & Muller 1958, https://doi.org/10.1214/aoms/1177706645
 */
export function randn(
  device: Device,
  shape: Shape,
  { seed, dtype = "f32", mean = 0, std = 1 }: DrawOptions & { readonly mean?: number; readonly std?: number },
): Tensor {
  checkFloat(dtype, "randn");
  return drawNormal(device, shape, dtype, key(seed), { mean, deviation: std });
}

// Φ⁻¹ of a uniform number between Φ(low) and Φ(high), as √2 · erf⁻¹ of one between erf's there.
const drawTruncated = drawing(
  "truncatedNormal",
  4,
  "scalar",
  { mean: "f32", deviation: "f32", low: "f32", high: "f32", erfLow: "f32", erfHigh: "f32" },
  `${inverseErf}
   fn values(words: vec4u) -> vec4f {
     let x = u.erfLow + (u.erfHigh - u.erfLow) * unit(words);
     return clamp(u.mean + u.deviation * 1.4142135623730951 * inverse_erf(x), vec4f(u.low), vec4f(u.high));
   }`,
);

/**
 * Normal numbers that lie in [from, to]. `from` and `to` are values, not deviations. Where both are more than five
 * deviations off on one side of the mean, f32 has no numbers left there and the end nearer to the mean comes out.
 *
 * @returns a tensor of `shape`
 * @throws {ShapeError} when the dtype is no float, or an axis no length
 */
export function truncatedNormal(
  device: Device,
  shape: Shape,
  options: DrawOptions & {
    readonly mean?: number;
    readonly std?: number;
    readonly from?: number;
    readonly to?: number;
  },
): Tensor {
  const { seed, dtype = "f32", mean = 0, std = 1, from = -2, to = 2 } = options;
  checkFloat(dtype, "truncatedNormal");
  const cut = (x: number): number => erf((x - mean) / (std * Math.SQRT2));
  const range = { low: from, high: to, erfLow: cut(from), erfHigh: cut(to) };
  return drawTruncated(device, shape, dtype, key(seed), { mean, deviation: std, ...range });
}

// ⌊w · range / 2⁶⁴⌋ of a number w of two words: no value is likelier than another by more than 2⁻³² of itself.
const drawInteger = drawing(
  "randint",
  2,
  "words",
  { low: "u32", range: "u32" },
  `fn scaled(high: u32, low: u32) -> u32 {
     let rest = high * u.range;
     return mul_high(high, u.range) + select(0u, 1u, rest + mul_high(low, u.range) < rest);
   }
   fn values(words: vec4u) -> vec2u { return u.low + vec2u(scaled(words.x, words.y), scaled(words.z, words.w)); }`,
);

/**
 * Whole numbers in [from, to), each equally likely.
 *
 * @returns an i32 or u32 tensor of `shape`
 * @throws {UsageError} when the range is empty, of 2³² or more, or does not fit the dtype
 */
export function randint(
  device: Device,
  shape: Shape,
  options: {
    readonly seed: Seed;
    readonly from?: number;
    readonly to: number;
    readonly dtype?: "i32" | "u32";
  },
): Tensor {
  const { seed, from = 0, to, dtype = "i32" } = options;
  const [least, end] = dtype === "i32" ? [-(2 ** 31), 2 ** 31] : [0, 2 ** 32];
  const fits = Number.isInteger(from) && Number.isInteger(to) && from >= least && to <= end;
  if (!fits || to <= from || to - from >= 2 ** 32) {
    throw new UsageError(`randint: [${from}, ${to}) is not a range of ${dtype}`);
  }
  return drawInteger(device, shape, dtype, key(seed), { low: from >>> 0, range: to - from });
}

const drawBernoulli = drawing(
  "bernoulli",
  4,
  "words",
  { threshold: "u32", always: "u32" },
  `fn values(words: vec4u) -> vec4u {
     return select(vec4u(0u), vec4u(1u), (words < vec4u(u.threshold)) | vec4<bool>(u.always == 1u));
   }`,
);

/**
 * True with probability `p`, independently.
 *
 * @returns a bool tensor of `shape`, or 0 and 1 in another `dtype`
 * @throws {UsageError} when `p` is not between 0 and 1
 */
export function bernoulli(
  device: Device,
  shape: Shape,
  { seed, p, dtype = "bool" }: DrawOptions & { readonly p: number },
): Tensor {
  const { threshold, always } = chance(p, "bernoulli");
  return scope(() => cast(drawBernoulli(device, shape, "bool", key(seed), { threshold, always }), dtype));
}

/**
 * A probability as a word is compared with it: an event happens when the word is below `threshold`, or `always` is 1.
 *
 * @throws {UsageError} when `p` is not between 0 and 1
 */
export function chance(p: number, who: string): { threshold: number; always: number } {
  if (!(p >= 0 && p <= 1)) throw new UsageError(`${who}: ${p} is not a probability`);
  const threshold = Math.round(p * 2 ** 32);
  return threshold === 2 ** 32 ? { threshold: 0, always: 1 } : { threshold, always: 0 };
}

function checkFloat(dtype: DType, who: string): void {
  if (!isFloat(dtype)) throw new ShapeError(`${who}: ${dtype} holds no fractions; use f32, f16 or bf16`);
}
