import { ShapeError } from "../errors.ts";
import { expect, test } from "../testing.ts";
import { erf } from "./erf.ts";
import { calculateGain, fans, init } from "./init.ts";

interface Moments {
  readonly mean: number;
  readonly std: number;
  readonly least: number;
  readonly most: number;
}

function moments(read: ArrayLike<number>): Moments {
  const values = Array.from(read);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
  return { mean, std, least: Math.min(...values), most: Math.max(...values) };
}

const shape = [48, 16, 3, 5]; // fanIn 240, fanOut 720
const n = 48 * 240;

test("the fans of a weight are those PyTorch counts", () => {
  expect(fans([5, 3])).toEqual({ fanIn: 3, fanOut: 5 });
  expect(fans(shape)).toEqual({ fanIn: 240, fanOut: 720 });
  expect(() => fans([5], "xavierNormal")).toThrow(/xavierNormal: fans need a weight \[out, in, ...\], got \[5\]/);
  expect(() => fans([])).toThrow(ShapeError);
});

test("the gains are PyTorch's", () => {
  expect(calculateGain("linear")).toBe(1);
  expect(calculateGain("sigmoid")).toBe(1);
  expect(calculateGain("tanh")).toBeCloseTo(5 / 3, 12);
  expect(calculateGain("relu")).toBeCloseTo(Math.sqrt(2), 12);
  expect(calculateGain("leakyRelu")).toBeCloseTo(Math.sqrt(2 / 1.0001), 12);
  expect(calculateGain("leakyRelu", Math.sqrt(5))).toBeCloseTo(Math.sqrt(1 / 3), 12);
  expect(calculateGain("selu")).toBe(0.75);
});

test.for([
  { name: "xavierUniform", bound: 3 * Math.sqrt(6 / 960), make: "xavierUniform", options: { gain: 3 } },
  { name: "kaimingUniform", bound: Math.sqrt(6 / 240), make: "kaimingUniform", options: {} },
  // What torch.nn.Linear and Conv2d begin with: ±1/√fanIn.
  { name: "of a layer", bound: 1 / Math.sqrt(240), make: "kaimingUniform", options: { a: Math.sqrt(5) } },
  {
    name: "kaimingUniform fanOut tanh",
    bound: (5 / 3) * Math.sqrt(3 / 720),
    make: "kaimingUniform",
    options: { mode: "fanOut", nonlinearity: "tanh" },
  },
] as const)(
  "the uniform weights $name reach their bound and no further",
  async ({ bound, make, options }, { device }) => {
    const { mean, std, least, most } = moments(await init[make](device, shape, { seed: 1, ...options }).read());
    expect(Math.abs(mean)).toBeLessThan((4 * bound) / Math.sqrt(3 * n));
    expect(std / (bound / Math.sqrt(3))).toBeCloseTo(1, 1);
    expect(most).toBeLessThanOrEqual(bound * (1 + 1e-6));
    expect(least).toBeGreaterThanOrEqual(-bound * (1 + 1e-6));
    expect(most).toBeGreaterThan(0.999 * bound);
    expect(least).toBeLessThan(-0.999 * bound);
  },
);

test.for([
  { name: "xavierNormal", std: Math.sqrt(2 / 960), make: "xavierNormal", options: {} },
  { name: "kaimingNormal", std: Math.sqrt(2 / 240), make: "kaimingNormal", options: {} },
  { name: "kaimingNormal fanOut", std: Math.sqrt(2 / 720), make: "kaimingNormal", options: { mode: "fanOut" } },
  { name: "kaimingNormal selu", std: 0.75 / Math.sqrt(240), make: "kaimingNormal", options: { nonlinearity: "selu" } },
  { name: "normal", std: 1, make: "normal", options: {} },
] as const)("the normal weights $name have their deviation", async ({ std, make, options }, { device }) => {
  const seen = moments(await init[make](device, shape, { seed: 2, ...options }).read());
  expect(Math.abs(seen.mean)).toBeLessThan((4 * std) / Math.sqrt(n));
  expect(Math.abs(seen.std / std - 1)).toBeLessThan(4 / Math.sqrt(2 * n));
  expect(seen.most / std).toBeGreaterThan(3);
});

test("truncNormal cuts at two deviations by default and keeps the variance of what is left", async ({ device }) => {
  const { std, least, most } = moments(await init.truncNormal(device, shape, { seed: 3 }).read());
  // 1 − 2·2φ(2) / (Φ(2) − Φ(−2))
  const variance = 1 - (4 * Math.exp(-2)) / Math.sqrt(2 * Math.PI) / erf(Math.SQRT2);
  expect(Math.abs(std / Math.sqrt(variance) - 1)).toBeLessThan(4 / Math.sqrt(2 * n));
  expect([least >= -2, most <= 2, most > 1.98]).toEqual([true, true, true]);
});

test("zeros, ones and constant are what they say, in any dtype", async ({ device }) => {
  await expect(init.zeros(device, [3])).toBeClose([0, 0, 0]);
  await expect(init.ones(device, [3], "bf16")).toBeClose([1, 1, 1]);
  await expect(init.constant(device, [3], 0.25, "f16")).toBeClose([0.25, 0.25, 0.25]);
});

test("weights without elements are made without complaint", async ({ device }) => {
  for (const make of ["xavierUniform", "xavierNormal", "kaimingUniform", "kaimingNormal"] as const) {
    expect(await init[make](device, [3, 0], { seed: 1 }).read()).toEqual(new Float32Array(0));
    expect(await init[make](device, [0, 3], { seed: 1, dtype: "bf16" }).read()).toEqual(new Float32Array(0));
  }
});

test("erf agrees with published values", () => {
  const known: [number, number][] = [
    [0, 0],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [3, 0.9999779095030014],
    [Number.POSITIVE_INFINITY, 1],
  ];
  for (const [x, y] of known) {
    expect(erf(x)).toBeCloseTo(y, 14);
    expect(erf(-x)).toBeCloseTo(-y, 14);
  }
  expect(erf(Number.NaN)).toBeNaN();
});
