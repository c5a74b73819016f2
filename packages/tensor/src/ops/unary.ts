/**
 * The unary ops. A row says, in WGSL over f32 scalars and vectors, what `y` is of `x`, and what the cotangent `dx` is of
 * `x`, `y` and `dy`.
 */
import { isFloat } from "../dtype.ts";
import { defineOp } from "../op.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { zeros } from "./create.ts";
import { floating, pointwise } from "./pointwise.ts";
import { erfHelper, expHelper, expm1Helper, log1pHelper, logHelper, sinHelper, tanhHelper } from "./special.wgsl.ts";

interface Row {
  readonly y: string;
  readonly dx: string;
  readonly helpers?: string;
  /** Over scalars alone. */
  readonly scalar?: boolean;
  /** What `y` is of i32 and of u32, where integers stay integers. */
  readonly whole?: readonly [signed: string, unsigned: string];
}

const table = {
  neg: { y: "-x", dx: "-dy", whole: ["T(0) - x", "T(0) - x"] },
  abs: { y: "abs(x)", dx: "dy * sign(x)", whole: ["abs(x)", "x"] },
  sign: { y: "sign(x)", dx: "0", whole: ["sign(x)", "min(x, T(1))"] },
  square: { y: "x * x", dx: "2.0 * dy * x", whole: ["x * x", "x * x"] },
  sqrt: { y: "sqrt(x)", dx: "0.5 * dy / y" },
  /** As sqrt, but flat at 0: the end of a norm, whose gradient PyTorch takes for 0 there. */
  root: { y: "sqrt(x)", dx: "select(0.5 * dy / y, T(0.0), y == T(0.0))" },
  rsqrt: { y: "1.0 / sqrt(x)", dx: "-0.5 * dy * y * y * y" },
  reciprocal: { y: "1.0 / x", dx: "-dy * y * y" },
  exp: { y: "exp_(x)", dx: "dy * y", helpers: expHelper },
  expm1: { y: "expm1_(x)", dx: "dy * (y + 1.0)", helpers: expm1Helper },
  log: { y: "log_(x)", dx: "dy / x", helpers: logHelper },
  log1p: { y: "log1p_(x)", dx: "dy / (1.0 + x)", helpers: log1pHelper },
  sin: { y: "sin_(x)", dx: "dy * cos_(x)", helpers: sinHelper, scalar: true },
  cos: { y: "cos_(x)", dx: "-dy * sin_(x)", helpers: sinHelper, scalar: true },
  tanh: { y: "tanh_(x)", dx: "dy * (1.0 - y * y)", helpers: tanhHelper },
  erf: { y: "erf_(x)", dx: "dy * 1.1283791670955126 * exp(-x * x)", helpers: erfHelper },
  floor: { y: "floor(x)", dx: "0", whole: ["x", "x"] },
  ceil: { y: "ceil(x)", dx: "0", whole: ["x", "x"] },
  /** Halves go to the even neighbour, as IEEE, NumPy and PyTorch have it. */
  round: { y: "round(x)", dx: "0", whole: ["x", "x"] },
  relu: { y: "select(x, T(0.0), x <= T(0.0))", dx: "select(dy, T(0.0), x <= T(0.0))", whole: ["max(x, T(0))", "x"] },
  sigmoid: { y: "select(1.0 / (1.0 + exp(-x)), x, is_nan(x))", dx: "dy * y * (1.0 - y)" },
  silu: {
    y: "x / (1.0 + exp(-x))",
    dx: "dy * silu_slope(x)",
    helpers: "fn silu_slope(x: T) -> T { let s = 1.0 / (1.0 + exp(-x)); return s * (1.0 + x * (1.0 - s)); }",
  },
  /** 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), as in the vision blocks. */
  geluTanh: {
    y: "gelu(x)",
    dx: "dy * gelu_slope(x)",
    helpers: `${tanhHelper}
      fn inner(x: T) -> T { return 0.7978845608028654 * (x + 0.044715 * x * x * x); }
      fn gelu(x: T) -> T { return 0.5 * x * (1.0 + tanh_(inner(x))); }
      fn gelu_slope(x: T) -> T {
        let t = tanh_(inner(x));
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 0.134145 * x * x);
      }`,
  },
  /** x Φ(x), the exact form, as in the vision mergers. */
  gelu: {
    y: "0.5 * x * (1.0 + erf_(x * 0.7071067811865476))",
    dx: "dy * (0.5 * (1.0 + erf_(x * 0.7071067811865476)) + x * 0.3989422804014327 * exp(-0.5 * x * x))",
    helpers: erfHelper,
  },
} as const satisfies Record<string, Row>;

/** Names of the unary ops, for the tests that go over all of them. */
export type UnaryName = keyof typeof table;

/** What `y` and `dx` are, for kernels that end with a unary op. */
export const unaryRow = (name: UnaryName): Row => table[name];

/**
 * Every unary op: `unary.exp(x)`. Integers stay integers where the result is whole (bools count as i32), otherwise they
 * become f32.
 */
export const unary = Object.fromEntries(
  Object.entries(table).map(([name, row]) => [name, define(name, row)]),
) as Record<UnaryName, (x: Tensor) => Tensor>;

function define(name: string, row: Row): (x: Tensor) => Tensor {
  const { helpers = "", scalar = false, whole } = row;
  const common = { helpers, scalar, compute: "f32" } as const;
  const forward = pointwise({ name, inputs: ["x"], expression: row.y, ...common });
  const integers = whole?.map((expression) => pointwise({ name, inputs: ["x"], expression }));
  const reads = (value: string): boolean => new RegExp(`\\b${value}\\b`).test(row.dx);
  const flat = row.dx === "0";
  const inputs = (["x", "y", "dy"] as const).filter(reads);
  const backward = pointwise({ name: `${name}.vjp`, inputs, expression: row.dx, ...common });
  const op = defineOp<[x: Tensor]>({
    name,
    forward([x]) {
      if (!integers || isFloat(x.dtype)) return forward({ x }, floating(x.dtype));
      const [signed, unsigned] = integers as [typeof forward, typeof forward];
      return x.dtype === "u32" ? unsigned({ x }, "u32") : signed({ x: cast(x, "i32") }, "i32");
    },
    saves: { inputs: [reads("x")], output: reads("y") },
    vjp: ([x], _, y, dy) => [flat ? zeros(dy.device, x.shape, x.dtype) : backward({ x, y, dy }, x.dtype)],
  });
  return (x) => op(x, undefined);
}
