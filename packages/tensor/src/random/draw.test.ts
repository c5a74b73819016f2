import { ShapeError, UsageError } from "../errors.ts";
import { expect, test } from "../testing.ts";
import { bernoulli, rand, randint, randn, truncatedNormal } from "./draw.ts";
import { erf } from "./erf.ts";
import { key } from "./key.ts";
import { philox } from "./philox.ts";

const COUNT = 100_003;

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0) / values.length;
const variance = (values: ArrayLike<number>): number => {
  const middle = mean(values);
  return mean(Array.from(values, (v) => (v - middle) ** 2));
};

/** The largest distance between the share of values up to x and the probability of them, times √n. */
function kolmogorovSmirnov(values: ArrayLike<number>, cumulative: (x: number) => number): number {
  const sorted = Float64Array.from(values).sort();
  const n = sorted.length;
  const gap = sorted.reduce(
    (worst, x, i) => Math.max(worst, Math.abs((i + 1) / n - cumulative(x)), Math.abs(i / n - cumulative(x))),
    0,
  );
  return gap * Math.sqrt(n);
}

/** Σ (seen − expected)² / expected as deviations from its own mean: about normal for many bins. */
function chiSquare(bins: readonly number[]): number {
  const expected = bins.reduce((a, b) => a + b, 0) / bins.length;
  const sum = bins.reduce((total, seen) => total + (seen - expected) ** 2 / expected, 0);
  const freedom = bins.length - 1;
  return (sum - freedom) / Math.sqrt(2 * freedom);
}

function count(values: ArrayLike<number>, bins: number, bin: (value: number) => number): number[] {
  const out = Array<number>(bins).fill(0);
  for (const value of Array.from(values)) out[bin(value)] = (out[bin(value)] as number) + 1;
  return out;
}

/** Of a true distribution, one in a thousand exceeds this √n · gap. */
const KS_LIMIT = 1.95;
const normal = (x: number): number => (1 + erf(x / Math.SQRT2)) / 2;

/** What element i should be made of. */
function words(seed: ReturnType<typeof key>, i: number, each = 4): [number, number, number, number] {
  const { key0, key1, step, sample } = seed.uniforms;
  return philox([Math.floor(i / each), sample, step, 0], [key0, key1]);
}

test.for([0, 1, 3, 4, 5, 63, 255, 257, 1021])("rand of %i is made of the key's words", async (n, { device }) => {
  const seed = key(11).for("a test", 5).at(3);
  const values = await rand(device, [n], { seed }).read();
  expect(values).toEqual(
    Float32Array.from({ length: n }, (_, i) => ((words(seed, i)[i % 4] as number) >>> 8) / 2 ** 24),
  );
});

test("rand is right above 65,535 workgroups", async ({ device }) => {
  const n = 65_536 * 256 + 5;
  const values = await rand(device, [n], { seed: 1 }).read();
  for (const i of [0, 255, 256, 65_535 * 256 - 1, 65_535 * 256, n - 6, n - 5, n - 1]) {
    expect(values[i], `element ${i}`).toBe(((words(key(1), i)[i % 4] as number) >>> 8) / 2 ** 24);
  }
});

test("rand does not depend on the shape, only on the place in it", async ({ device }) => {
  const long = await rand(device, [4096], { seed: 9 }).read();
  expect(await rand(device, [7, 11, 13], { seed: 9 }).read()).toEqual(long.slice(0, 1001));
  expect(await rand(device, [], { seed: 9 }).read()).toEqual(long.slice(0, 1));
});

test("rand is uniform", async ({ device }) => {
  const values = await rand(device, [COUNT], { seed: 1 }).read();
  expect(values.every((v) => v >= 0 && v < 1)).toBe(true);
  expect(kolmogorovSmirnov(values, (x) => x)).toBeLessThan(KS_LIMIT);
  expect(Math.abs(chiSquare(count(values, 256, (v) => Math.floor(256 * v))))).toBeLessThan(4);
  // Pairs of neighbours fill the square.
  const pairs = Array.from({ length: COUNT - 1 }, (_, i) => i);
  const cell = (i: number): number =>
    16 * Math.floor(16 * (values[i] as number)) + Math.floor(16 * (values[i + 1] as number));
  expect(Math.abs(chiSquare(count(pairs, 256, cell)))).toBeLessThan(4);
});

test("rand stretches over any range, in any float dtype", async ({ device }) => {
  const unit = await rand(device, [1000], { seed: 2 }).read();
  const wide = rand(device, [1000], { seed: 2, from: -3, to: 5 });
  await expect(wide).toBeClose({ shape: [1000], values: unit.map((v) => -3 + 8 * v) }, { absolute: 1e-6 });
  const half = rand(device, [1000], { seed: 2, dtype: "bf16" });
  expect(half.dtype).toBe("bf16");
  await expect(half).toBeClose({ shape: [1000], values: unit }, { relative: 2 ** -8 });
});

test("randn is Box and Muller's transform of the key's words", async ({ device }) => {
  const seed = key(3).for("noise");
  const values = Array.from({ length: 1001 }, (_, i) => {
    const w = words(seed, i);
    const [a, b] = i % 4 < 2 ? [w[0], w[1]] : [w[2], w[3]];
    const radius = Math.sqrt(-2 * Math.log(Math.fround(a) / 2 ** 32 + 2 ** -33));
    const angle = (2 * Math.PI * (b >>> 8)) / 2 ** 24;
    return radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
  });
  await expect(randn(device, [1001], { seed })).toBeClose({ shape: [1001], values }, { absolute: 1e-5 });
  await expect(randn(device, [1001], { seed, mean: 10, std: 0.5 })).toBeClose(
    { shape: [1001], values: values.map((v) => 10 + v / 2) },
    { absolute: 1e-5 },
  );
});

test.for([1, 2, 3])("randn of seed %i is normal", async (seed, { device }) => {
  const values = await randn(device, [COUNT], { seed }).read();
  expect(Math.abs(mean(values))).toBeLessThan(4 / Math.sqrt(COUNT));
  expect(Math.abs(variance(values) - 1)).toBeLessThan(4 * Math.sqrt(2 / COUNT));
  expect(kolmogorovSmirnov(values, normal)).toBeLessThan(KS_LIMIT);
  for (const lag of [1, 2, 3, 4]) {
    const products = Array.from({ length: COUNT - lag }, (_, i) => (values[i] as number) * (values[i + lag] as number));
    expect(Math.abs(mean(products)), `lag ${lag}`).toBeLessThan(4 / Math.sqrt(COUNT));
  }
  const far = values.filter((v) => Math.abs(v) > 3).length / COUNT;
  expect(far).toBeGreaterThan(0.0022);
  expect(far).toBeLessThan(0.0032);
});

test("truncatedNormal is normal between its ends and nowhere else", async ({ device }) => {
  for (const [mean, std, from, to] of [
    [0, 1, -2, 2],
    [1, 3, -2, 2],
    [0, 0.02, -0.01, 0.05],
    [0, 1, 1.5, 4],
    [0, 1, Number.NEGATIVE_INFINITY, 0.5],
  ] as const) {
    const values = await truncatedNormal(device, [COUNT], { seed: 4, mean, std, from, to }).read();
    expect(values.every((v) => v >= Math.fround(from) && v <= Math.fround(to))).toBe(true);
    const [low, high] = [normal((from - mean) / std), normal((to - mean) / std)];
    const cumulative = (x: number): number => (normal((x - mean) / std) - low) / (high - low);
    expect(kolmogorovSmirnov(values, cumulative), `${mean} ${std} ${from} ${to}`).toBeLessThan(KS_LIMIT);
  }
});

test("randint is the key's words, two to a number, scaled to the range", async ({ device }) => {
  for (const [from, to, dtype] of [
    [0, 10, "i32"],
    [-5, 2, "i32"],
    [-(2 ** 31), 2 ** 31 - 1, "i32"],
    [7, 8, "i32"],
    [0, 2 ** 32 - 1, "u32"],
    [3 * 2 ** 30, 2 ** 32, "u32"],
  ] as const) {
    const seed = key(5).for(`${from}`);
    const values = Array.from({ length: 301 }, (_, i) => {
      const w = words(seed, i, 2);
      const [high, low] = i % 2 === 0 ? [w[0], w[1]] : [w[2], w[3]];
      return from + Number((((BigInt(high) << 32n) + BigInt(low)) * BigInt(to - from)) >> 64n);
    });
    const got = randint(device, [7, 43], { seed, from, to, dtype });
    expect(got.dtype).toBe(dtype);
    expect(Array.from(await got.read()), `[${from}, ${to})`).toEqual(values);
  }
});

test("randint gives every number equally often, also of a large range", async ({ device }) => {
  const seven = await randint(device, [COUNT], { seed: 6, from: -3, to: 4 }).read();
  expect(Math.abs(chiSquare(count(seven, 7, (v) => v + 3)))).toBeLessThan(4);
  const large = await randint(device, [COUNT], { seed: 6, to: 3 * 2 ** 30, dtype: "u32" }).read();
  expect(Math.abs(chiSquare(count(large, 192, (v) => Math.floor(v / 2 ** 24))))).toBeLessThan(4);
});

test("bernoulli is true as often as it should be, and exactly so at 0 and 1", async ({ device }) => {
  for (const p of [0.001, 0.3, 0.5, 0.97]) {
    const values = await bernoulli(device, [COUNT], { seed: 8, p }).read();
    expect(Math.abs(mean(values) - p), `${p}`).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / COUNT));
  }
  expect(mean(await bernoulli(device, [1001], { seed: 8, p: 0 }).read())).toBe(0);
  expect(mean(await bernoulli(device, [1001], { seed: 8, p: 1 }).read())).toBe(1);
  expect(mean(await bernoulli(device, [1001], { seed: 8, p: 1 - 2 ** -40 }).read())).toBe(1);
  const floats = bernoulli(device, [3], { seed: 8, p: 1, dtype: "f32" });
  await expect(floats).toBeClose({ shape: [3], values: [1, 1, 1] });
});

test("different seeds, steps and samples are uncorrelated", async ({ device }) => {
  const keys = [key(1), key(2), key(1).at(1), key(1).for("a"), key(1).for("a", 1), key(1).for("b")];
  const all = await Promise.all(keys.map((seed) => randn(device, [COUNT], { seed }).read()));
  for (const [i, a] of all.entries()) {
    for (const b of all.slice(i + 1)) {
      expect(Math.abs(mean(a.map((v, at) => v * (b[at] as number))))).toBeLessThan(4 / Math.sqrt(COUNT));
    }
  }
});

test("a range, dtype or probability that makes no sense is refused", ({ device }) => {
  expect(() => rand(device, [2], { seed: 1, dtype: "i32" })).toThrow(ShapeError);
  expect(() => randn(device, [2], { seed: 1, dtype: "bool" })).toThrow(/randn: bool/);
  expect(() => rand(device, [-1], { seed: 1 })).toThrow(ShapeError);
  expect(() => bernoulli(device, [2], { seed: 1, p: 1.5 })).toThrow(/1.5 is not a probability/);
  expect(() => bernoulli(device, [2], { seed: 1, p: Number.NaN })).toThrow(UsageError);
  for (const [from, to] of [
    [0, 0],
    [2, 1],
    [0, 2 ** 31 + 1],
    [0.5, 2],
  ] as const) {
    expect(() => randint(device, [2], { seed: 1, from, to }), `[${from}, ${to})`).toThrow(UsageError);
  }
  expect(() => randint(device, [2], { seed: 1, to: 2 ** 32, dtype: "u32" })).toThrow(/is not a range of u32/);
});
