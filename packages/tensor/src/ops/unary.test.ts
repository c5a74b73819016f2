import { checkGradients, expect, test } from "../testing.ts";
import { tensor } from "./create.ts";
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

/** By its series, which converges everywhere. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
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

test.for(names)("%s has its slope for a gradient", async (name, { device }) => {
  const points = [0.3, 0.7, 1.2, 2.1, 3.4, ...(positive.has(name) || name === "log1p" ? [] : [-0.4, -1.3, -2.6])];
  await checkGradients(unary[name], [tensor(device, points)]);
});
