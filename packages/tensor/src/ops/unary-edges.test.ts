import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { full, tensor } from "./create.ts";
import { unary, type UnaryName } from "./unary.ts";

const names = Object.keys(unary) as UnaryName[];
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

/** What PyTorch gives at the edges. */
const edges: Record<UnaryName, readonly (readonly [x: number, y: number])[]> = {
  neg: [
    [0, -0],
    [inf, -inf],
    [nan, nan],
  ],
  abs: [
    [-0, 0],
    [-inf, inf],
    [nan, nan],
    [-3, 3],
  ],
  sign: [
    [0, 0],
    [-0, 0],
    [inf, 1],
    [-inf, -1],
    [-1e-30, -1],
  ],
  square: [
    [-inf, inf],
    [nan, nan],
    [2e19, inf],
    [-3, 9],
  ],
  sqrt: [
    [0, 0],
    [-0, 0],
    [-1, nan],
    [inf, inf],
    [-inf, nan],
    [nan, nan],
    [4, 2],
  ],
  root: [
    [0, 0],
    [-1, nan],
    [inf, inf],
    [nan, nan],
    [9, 3],
  ],
  rsqrt: [
    [0, inf],
    [-1, nan],
    [inf, 0],
    [nan, nan],
    [4, 0.5],
  ],
  reciprocal: [
    [0, inf],
    [-0, -inf],
    [inf, 0],
    [-inf, 0],
    [nan, nan],
    [-4, -0.25],
  ],
  exp: [
    [0, 1],
    [-0, 1],
    [100, inf],
    [-100, Math.fround(Math.exp(-100))],
    [-200, 0],
    [88, Math.exp(88)],
    [-87, Math.exp(-87)],
    [inf, inf],
    [-inf, 0],
    [nan, nan],
  ],
  expm1: [
    [0, 0],
    [-0, 0],
    [100, inf],
    [-100, -1],
    [inf, inf],
    [-inf, -1],
    [nan, nan],
    [1e-7, 1e-7],
  ],
  log: [
    [0, -inf],
    [-0, -inf],
    [-1, nan],
    [-inf, nan],
    [inf, inf],
    [nan, nan],
    [1, 0],
    [3e38, Math.log(3e38)],
    [1.2e-38, Math.log(1.2e-38)],
  ],
  log1p: [
    [0, 0],
    [-1, -inf],
    [-2, nan],
    [-inf, nan],
    [inf, inf],
    [nan, nan],
    [1e-7, 1e-7],
    [-1e-7, -1e-7],
  ],
  sin: [
    [0, 0],
    [-0, 0],
    [inf, nan],
    [-inf, nan],
    [nan, nan],
    [1e8, Math.sin(1e8)],
    [3e38, Math.sin(Math.fround(3e38))],
  ],
  cos: [
    [0, 1],
    [-0, 1],
    [inf, nan],
    [-inf, nan],
    [nan, nan],
    [1e8, Math.cos(1e8)],
    [3e38, Math.cos(Math.fround(3e38))],
  ],
  tanh: [
    [0, 0],
    [-0, 0],
    [90, 1],
    [-90, -1],
    [inf, 1],
    [-inf, -1],
    [nan, nan],
    [1e-8, 1e-8],
  ],
  erf: [
    [0, 0],
    [-0, 0],
    [90, 1],
    [-90, -1],
    [inf, 1],
    [-inf, -1],
    [nan, nan],
    [1e-8, 1.1283791670955126e-8],
  ],
  floor: [
    [-0.5, -1],
    [0.5, 0],
    [inf, inf],
    [-inf, -inf],
    [nan, nan],
    [-2, -2],
    [1e30, 1e30],
  ],
  ceil: [
    [-0.5, 0],
    [0.5, 1],
    [inf, inf],
    [-inf, -inf],
    [nan, nan],
    [-2, -2],
    [1e30, 1e30],
  ],
  round: [
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, 0],
    [-1.5, -2],
    [-2.5, -2],
    [inf, inf],
    [nan, nan],
    [8388609, 8388609],
  ],
  relu: [
    [0, 0],
    [-0, 0],
    [-3, 0],
    [3, 3],
    [inf, inf],
    [-inf, 0],
    [nan, nan],
  ],
  sigmoid: [
    [0, 0.5],
    [100, 1],
    [-100, 0],
    [inf, 1],
    [-inf, 0],
    [nan, nan],
  ],
  silu: [
    [0, 0],
    [-0, 0],
    [90, 90],
    [-90, 0],
    [inf, inf],
    [nan, nan],
    [1e30, 1e30],
  ],
  geluTanh: [
    [0, 0],
    [-0, 0],
    [90, 90],
    [-90, 0],
    [inf, inf],
    [-inf, nan],
    [nan, nan],
    [1e15, 1e15],
    [-1e15, 0],
  ],
  gelu: [
    [0, 0],
    [-0, 0],
    [90, 90],
    [-90, 0],
    [inf, inf],
    [-inf, nan],
    [nan, nan],
    [1e15, 1e15],
    [-1e15, 0],
  ],
};

test.for(names)(
  "%s is what PyTorch has at zeros, infinities, NaN and far out, alone and four at a time",
  async (name, { device }) => {
    const pairs = edges[name];
    const x = [1, 2, 3, 4].flatMap(() => pairs.map(([v]) => v));
    const want = [1, 2, 3, 4].flatMap(() => pairs.map(([, y]) => y));
    const tolerance = { absolute: 1e-37, relative: 1e-6 };
    await expect(unary[name](tensor(device, x))).toBeClose(want, tolerance);
    await expect(unary[name](tensor(device, [...x, x[0] as number]))).toBeClose(
      [...want, want[0] as number],
      tolerance,
    );
  },
);

/** Slopes where a formula might give 0 · ∞. */
const flat: Partial<Record<UnaryName, readonly (readonly [x: number, dx: number])[]>> = {
  relu: [
    [0, 0],
    [-3, 0],
    [3, 1],
  ],
  abs: [
    [0, 0],
    [-2, -1],
  ],
  sqrt: [
    [0, inf],
    [4, 0.25],
  ],
  root: [
    [0, 0],
    [4, 0.25],
  ],
  tanh: [
    [90, 0],
    [-90, 0],
    [0, 1],
  ],
  sigmoid: [
    [100, 0],
    [-100, 0],
    [0, 0.25],
  ],
  silu: [
    [90, 1],
    [-90, 0],
    [0, 0.5],
  ],
  geluTanh: [
    [90, 1],
    [-90, 0],
    [0, 0.5],
  ],
  gelu: [
    [90, 1],
    [-90, 0],
    [0, 0.5],
  ],
  erf: [
    [90, 0],
    [-90, 0],
  ],
  exp: [
    [-100, Math.fround(Math.exp(-100))],
    [100, inf],
  ],
  log: [
    [0, inf],
    [2, 0.5],
  ],
  sign: [[3, 0]],
  floor: [[0.5, 0]],
};

test.for(Object.keys(flat) as UnaryName[])(
  "the gradient of %s is what PyTorch has at 0 and far out",
  async (name, { device }) => {
    const pairs = flat[name] as readonly (readonly [number, number])[];
    const x = requireGrad(
      tensor(
        device,
        pairs.map(([v]) => v),
      ),
    );
    const [dx] = grad(unary[name](x), [x], { cotangent: full(device, [pairs.length], 1) }) as [Tensor];
    await expect(dx).toBeClose(
      pairs.map(([, d]) => d),
      { absolute: 1e-6 },
    );
  },
);
