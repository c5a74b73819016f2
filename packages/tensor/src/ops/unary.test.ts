import { stored } from "../../test/tools/lines.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { cast } from "./cast.ts";
import { full, tensor } from "./create.ts";
import { unary, type UnaryName } from "./unary.ts";

/** The same functions in double precision. */
const plain: Record<UnaryName, (x: number) => number> = {
  neg: (x) => -x,
  abs: Math.abs,
  sign: Math.sign,
  square: (x) => x * x,
  sqrt: Math.sqrt,
  root: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  exp: Math.exp,
  expm1: Math.expm1,
  log: Math.log,
  log1p: Math.log1p,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  erf,
  floor: Math.floor,
  ceil: Math.ceil,
  round: (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)),
  relu: (x) => Math.max(x, 0),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  silu: (x) => x / (1 + Math.exp(-x)),
  geluTanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

/** By its series near 0, by its continued fraction elsewhere. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 3) {
    let rest = 0;
    for (let n = 60; n > 0; n--) rest = n / 2 / (a + rest);
    return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + rest));
  }
  let [term, total] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

const positive = new Set<string>(["sqrt", "root", "rsqrt", "log"]);
const names = Object.keys(unary) as UnaryName[];

test.for(names)("%s agrees with double precision at odd sizes", async (name, { device, random }) => {
  for (const length of [1, 4, 63, 257, 1000]) {
    const raw = random.normals(length, 3);
    const points = positive.has(name) || name === "log1p" ? raw.map((v) => Math.abs(v) + 1e-3) : raw;
    const y = unary[name](tensor(device, points));
    await expect(y).toBeClose(
      { shape: [length], values: Array.from(points, plain[name]) },
      { absolute: 2e-6, relative: 2e-6 },
    );
  }
});

/** Evenly over what a range holds, in one direction or both. */
const ranges: readonly (readonly [name: string, point: (t: number) => number])[] = [
  ["±1", (t) => 2 * t - 1],
  ["±12", (t) => 24 * t - 12],
  ["±87", (t) => 174 * t - 87],
  ["±100,000", (t) => 2e5 * t - 1e5],
  ["the numbers near 1", (t) => 1 + 1e-3 * (t - 0.5)],
  ["all magnitudes", (t) => (t < 0.5 ? -1 : 1) * 10 ** (60 * ((2 * t) % 1) - 30)],
];
const POINTS = 8191;

test.for(ranges)("every function keeps 1e-6 over %s", async ([, point], { device }) => {
  const all = Float32Array.from({ length: POINTS }, (_, i) => point(i / (POINTS - 1)));
  for (const name of names) {
    const least = name === "log1p" ? -1 : 0;
    const x = positive.has(name) || name === "log1p" ? all.filter((v) => v > least) : all;
    // The largest f32 and the smallest normal one are the edges of what is asked.
    const held = (v: number): number => (Math.abs(v) < 2 ** -126 ? 0 : Math.fround(v));
    const want = Float64Array.from(x, (v) => held(plain[name](v)));
    await expect(unary[name](tensor(device, x)), name).toBeClose(
      { shape: [x.length], values: want },
      { absolute: 1e-6, relative: 1e-6 },
    );
  }
});

test("integers stay integers where the result is whole, and become f32 elsewhere", async ({ device }) => {
  const x = tensor(device, Int32Array.of(-5, 0, 2 ** 24 + 1));
  for (const [name, want] of [
    ["neg", [5, 0, -(2 ** 24) - 1]],
    ["abs", [5, 0, 2 ** 24 + 1]],
    ["sign", [-1, 0, 1]],
    ["square", [25, 0, Math.imul(2 ** 24 + 1, 2 ** 24 + 1)]],
    ["relu", [0, 0, 2 ** 24 + 1]],
    ["floor", [-5, 0, 2 ** 24 + 1]],
    ["ceil", [-5, 0, 2 ** 24 + 1]],
    ["round", [-5, 0, 2 ** 24 + 1]],
  ] as const) {
    const y = unary[name](x);
    expect(y.dtype).toBe("i32");
    await expect(y).toBeClose(want);
  }
  const u = tensor(device, Uint32Array.of(0, 3, 2 ** 32 - 1));
  await expect(unary.neg(u)).toBeClose([0, 2 ** 32 - 3, 1]);
  await expect(unary.sign(u)).toBeClose([0, 1, 1]);
  await expect(unary.abs(u)).toBeClose([0, 3, 2 ** 32 - 1]);
  await expect(unary.relu(u)).toBeClose([0, 3, 2 ** 32 - 1]);
  expect(unary.square(u).dtype).toBe("u32");
  const b = tensor(device, [true, false]);
  expect(unary.neg(b).dtype).toBe("i32");
  await expect(unary.neg(b)).toBeClose([-1, 0]);
  expect(unary.exp(x).dtype).toBe("f32");
  await expect(unary.sqrt(b)).toBeClose([1, 0]);
});

test.for(["f16", "bf16"] as const)("%s is computed in f32 and rounded once", async (dtype, { random }) => {
  const x = random.normal([301], 2, dtype);
  for (const name of names) {
    const y = unary[name](x);
    expect(y.dtype).toBe(dtype);
    const wide = await unary[name](cast(x, "f32")).read();
    await expect(y).toBeClose(Array.from(wide, (v) => stored(dtype, v)));
  }
});

test("scalars, nothing and more elements than 65,535 workgroups hold are all computed", async ({ device }) => {
  await expect(unary.square(tensor(device, 3))).toBeClose({ shape: [], values: [9] });
  expect((await unary.exp(full(device, [0, 3], 1)).read()).length).toBe(0);
  for (const n of [64 * 65_536 + 1, 4 * 64 * 65_536]) {
    const y = await unary.neg(full(device, [n], 3)).read();
    expect([y[0], y[n >> 1], y[n - 1]]).toEqual([-3, -3, -3]);
  }
});

test.for(names)("%s has its slope for a gradient", async (name, { device }) => {
  const points = [0.3, 0.7, 1.2, 2.1, 3.4, ...(positive.has(name) || name === "log1p" ? [] : [-0.4, -1.3, -2.6])];
  await checkGradients(unary[name], [tensor(device, points)]);
});
