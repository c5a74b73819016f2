/**
 * The binary ops, with broadcasting. A row says what `y` is of `a` and `b`, and what the cotangents are of `a`, `b`, `y`
 * and `dy`; each is then summed over the axes that its operand was broadcast along.
 */
import { type DType, isFloat, promote } from "../dtype.ts";
import { UsageError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { pointwise } from "./pointwise.ts";
import { sumTo } from "./expand.ts";

interface Row {
  readonly y: string;
  readonly da: string;
  readonly db: string;
  readonly helpers?: string;
  /** Ops whose result is a float even of integers. */
  readonly float?: boolean;
}

const table = {
  add: { y: "a + b", da: "dy", db: "dy" },
  sub: { y: "a - b", da: "dy", db: "-dy" },
  mul: { y: "a * b", da: "dy * b", db: "dy * a" },
  div: { y: "a / b", da: "dy / b", db: "-dy * a / (b * b)", float: true },
  /** Where they are equal the cotangent is halved, as PyTorch does. NaN wins. */
  maximum: {
    y: "select(max(a, b), a + b, is_nan(a + b))",
    da: "dy * select(select(T(0.0), T(1.0), a > b), T(0.5), a == b)",
    db: "dy * select(select(T(0.0), T(1.0), b > a), T(0.5), a == b)",
  },
  minimum: {
    y: "select(min(a, b), a + b, is_nan(a + b))",
    da: "dy * select(select(T(0.0), T(1.0), a < b), T(0.5), a == b)",
    db: "dy * select(select(T(0.0), T(1.0), b < a), T(0.5), a == b)",
  },
  /** aᵇ, also for a negative `a` and a whole `b`. */
  pow: {
    y: "power(a, b)",
    da: "select(dy * b * power(a, b - 1.0), T(0.0), b == T(0.0))",
    db: "select(dy * y * log(a), T(0.0), (a == T(0.0)) & (b >= T(0.0)))",
    helpers: `fn power(a: T, b: T) -> T {
      let odd = abs(b - 2.0 * floor(b * 0.5)) == T(1.0);
      let m = pow(abs(a), b);
      let whole = floor(b) == b;
      let negative = select(T(bitcast<f32>(0x7fc00000u + u32(u.q))), select(m, -m, odd), whole);
      return select(select(m, negative, a < T(0.0)), T(1.0), b == T(0.0));
    }`,
    float: true,
  },
} as const satisfies Record<string, Row>;

export type BinaryName = keyof typeof table;

/** A tensor, or a number that takes the dtype of the other operand. */
export type Operand = Tensor | number;

/** Every binary op: `binary.add(a, b)`. Dtypes are promoted as PyTorch does; a number never promotes a float tensor. */
export const binary = Object.fromEntries(
  Object.entries(table).map(([name, row]) => [name, define(name, row)]),
) as Record<BinaryName, (a: Operand, b: Operand) => Tensor>;

export const { add, sub, mul, div } = binary;

/** Up to here every integer is exact in f32, in which constants travel. */
const EXACT = 2 ** 24;

function define(name: string, row: Row): (a: Operand, b: Operand) => Tensor {
  const float = (dtype: DType): DType => (row.float && !isFloat(dtype) ? "f32" : dtype);
  const [tensors, withNumber, numberWith] = [pair(name, row, null), pair(name, row, "b"), pair(name, row, "a")];
  return (a, b) => {
    if (a instanceof Tensor && b instanceof Tensor) {
      const dtype = float(promote(a.dtype, b.dtype));
      return tensors(cast(a, dtype), cast(b, dtype), 0);
    }
    const [x, constant] = a instanceof Tensor ? [a, b as number] : [b, a];
    if (!(x instanceof Tensor))
      throw new UsageError(`${name}: one of its operands must be a tensor, got ${a} and ${b}`);
    const dtype = float(besideNumber(x.dtype, constant));
    const [one, other] = a instanceof Tensor ? [cast(x, dtype), constant] : [constant, cast(x, dtype)];
    if (!isFloat(dtype) && Math.abs(constant) > EXACT) {
      const lift = (v: Tensor | number): Tensor => (v instanceof Tensor ? v : full(x.device, [], v, dtype));
      return tensors(lift(one), lift(other), 0);
    }
    return a instanceof Tensor
      ? withNumber(one as Tensor, one as Tensor, constant)
      : numberWith(other as Tensor, other as Tensor, constant);
  };
}

/** The dtype of a tensor beside a number: its own, unless a fraction meets an integer or anything meets a bool. */
export function besideNumber(dtype: DType, constant: number): DType {
  if (isFloat(dtype)) return dtype;
  if (!Number.isInteger(constant)) return "f32";
  return dtype === "bool" ? "i32" : dtype;
}

/** One row for two tensors, or for one and a constant in the place of `a` or `b`. */
function pair(name: string, row: Row, constant: "a" | "b" | null) {
  const { helpers = "" } = row;
  const names = (["a", "b"] as const).filter((operand) => operand !== constant);
  const constants = constant ? [constant] : [];
  const forward = pointwise({ name, inputs: names, constants, expression: row.y, helpers });
  const back = ([row.da, row.db] as const).map((expression) => {
    const inputs = (["a", "b", "y", "dy"] as const).filter(
      (v) => v !== constant && new RegExp(`\\b${v}\\b`).test(expression),
    );
    const run = pointwise({ name: `${name}.vjp`, inputs, constants, expression, helpers, compute: "f32" });
    return { inputs, run: expression === "dy" ? null : run };
  });
  const run = ([a, b]: readonly [Tensor, Tensor], p: number): Tensor => forward({ a, b }, a.dtype, p);
  const flow = (i: 0 | 1, [a, b]: readonly [Tensor, Tensor], y: Tensor, dy: Tensor, p: number): Tensor => {
    const { run } = back[i] as (typeof back)[0];
    return sumTo(run ? run({ a, b, y, dy }, dy.dtype, p) : dy, [a, b][i]?.shape ?? []);
  };
  if (constant) {
    const at = constant === "a" ? 1 : 0;
    const { inputs } = back[at] as (typeof back)[0];
    const op = defineOp<[x: Tensor], number>({
      name,
      forward: ([x], p) => run([x, x], p),
      saves: { inputs: [inputs.includes(constant === "a" ? "b" : "a")], output: inputs.includes("y") },
      vjp: ([x], p, y, dy) => [flow(at, [x, x], y, dy, p)],
    });
    return (x: Tensor, _: Tensor, p: number): Tensor => op(x, p);
  }
  const op = defineOp<[a: Tensor, b: Tensor], number>({
    name,
    forward: run,
    saves: (needs) => {
      const reads = (value: "a" | "b" | "y"): boolean => back.some(({ inputs }, i) => needs[i] && inputs.includes(value));
      return { inputs: [reads("a"), reads("b")], output: reads("y") };
    },
    vjp: (inputs, p, y, dy, needs) => [
      needs[0] ? flow(0, inputs, y, dy, p) : null,
      needs[1] ? flow(1, inputs, y, dy, p) : null,
    ],
  });
  return op;
}
