/**
 * The binary ops, with broadcasting. A row says what `y` is of `a` and `b`, and what the cotangents are of `a`, `b`, `y`
 * and `dy`; each is then summed over the axes that its operand was broadcast along.
 */
import { type DType, isFloat, promote } from "../dtype.ts";
import { ShapeError, UsageError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { type Pointwise, pointwise } from "./pointwise.ts";
import { sumTo } from "./expand.ts";
import { logHelper, powHelper } from "./special.wgsl.ts";

interface Row {
  readonly y: string;
  readonly da: string;
  readonly db: string;
  readonly helpers?: string;
  /** Ops whose result is a float even of integers. */
  readonly float?: boolean;
  /** Over scalars alone. */
  readonly scalar?: boolean;
  /** What `y` is of integers, if it is written otherwise. */
  readonly whole?: string;
  /** What `y` is of two bools; null where there is no such thing. */
  readonly bool?: string | null;
}

const table = {
  add: { y: "a + b", da: "dy", db: "dy", bool: "a | b" },
  sub: { y: "a - b", da: "dy", db: "-dy", bool: null },
  mul: { y: "a * b", da: "dy * b", db: "dy * a", bool: "a & b" },
  div: { y: "a / b", da: "dy / b", db: "-dy * (a / b) / b", float: true },
  /** Where they are equal the cotangent is halved, as PyTorch does. NaN wins. */
  maximum: {
    y: "select(max(a, b), a + b, is_nan(a) | is_nan(b))",
    da: "select(select(dy, T(0.0), a < b), 0.5 * dy, a == b)",
    db: "select(select(dy, T(0.0), b < a), 0.5 * dy, a == b)",
    whole: "max(a, b)",
  },
  minimum: {
    y: "select(min(a, b), a + b, is_nan(a) | is_nan(b))",
    da: "select(select(dy, T(0.0), a > b), 0.5 * dy, a == b)",
    db: "select(select(dy, T(0.0), b > a), 0.5 * dy, a == b)",
    whole: "min(a, b)",
  },
  /** aᵇ, also for a negative `a` and a whole `b`. */
  pow: {
    y: "power(a, b)",
    da: "select(dy * b * power(a, b - 1.0), T(0.0), b == T(0.0))",
    db: "select(dy * y * log_(a), T(0.0), (a == T(0.0)) & (b >= T(0.0)))",
    helpers: `${powHelper} ${logHelper}`,
    scalar: true,
    float: true,
  },
} as const satisfies Record<string, Row>;

export type BinaryName = keyof typeof table;

/** What `y` and the cotangents are, for kernels that fuse several ops. */
export const binaryRow = (name: BinaryName): Row => table[name];

/** A tensor, or a number that takes the dtype of the other operand. */
export type Operand = Tensor | number;

/**
 * Every binary op: `binary.add(a, b)`. Dtypes are promoted as PyTorch does; a number never promotes a float tensor. `div`
 * and `pow` of integers are f32; two bools are added by "or" and multiplied by "and".
 *
 * @throws {ShapeError} when the shapes do not broadcast, or bools are subtracted
 */
export const binary = Object.fromEntries(
  Object.entries(table).map(([name, row]) => [name, define(name, row)]),
) as Record<BinaryName, (a: Operand, b: Operand) => Tensor>;

export const { add, sub, mul, div } = binary;

/** Up to here every integer is exact in f32, in which constants travel; those of u32 wrap where they are negative. */
const EXACT = 2 ** 24;

function define(name: string, row: Row): (a: Operand, b: Operand) => Tensor {
  const float = (dtype: DType): DType => (row.float && !isFloat(dtype) ? "f32" : dtype);
  const [tensors, withNumber, numberWith] = [pair(name, row, null), pair(name, row, "b"), pair(name, row, "a")];
  return (a, b) => {
    if (a instanceof Tensor && b instanceof Tensor) {
      const dtype = float(promote(a.dtype, b.dtype));
      if (dtype === "bool" && row.bool === null)
        throw new ShapeError(`${name}: bools have no ${name}; cast one of them`);
      return tensors(cast(a, dtype), cast(b, dtype), 0);
    }
    const [x, constant] = a instanceof Tensor ? [a, b as number] : [b, a];
    if (!(x instanceof Tensor))
      throw new UsageError(`${name}: one of its operands must be a tensor, got ${String(a)} and ${String(b)}`);
    const dtype = float(besideNumber(x.dtype, constant));
    const [one, other] = a instanceof Tensor ? [cast(x, dtype), constant] : [constant, cast(x, dtype)];
    if (!isFloat(dtype) && (Math.abs(constant) > EXACT || (dtype === "u32" && constant < 0))) {
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
  const { helpers = "", scalar = false } = row;
  const names = (["a", "b"] as const).filter((operand) => operand !== constant);
  const constants = constant ? [constant] : [];
  const of = (expression: string): Pointwise<"a" | "b"> =>
    pointwise({ name, inputs: names, constants, expression, helpers, scalar });
  const floats = of(row.y);
  const integers = row.whole ? pointwise({ name, inputs: names, constants, expression: row.whole }) : floats;
  const bools = row.bool ? pointwise({ name, inputs: names, constants, expression: row.bool }) : integers;
  const back = ([row.da, row.db] as const).map((expression) => {
    const inputs = (["a", "b", "y", "dy"] as const).filter(
      (v) => v !== constant && new RegExp(`\\b${v}\\b`).test(expression),
    );
    const run = pointwise({ name: `${name}.vjp`, inputs, constants, expression, helpers, scalar, compute: "f32" });
    return { inputs, run: expression === "dy" ? null : run };
  });
  const run = ([a, b]: readonly [Tensor, Tensor], p: number): Tensor => {
    const forward = isFloat(a.dtype) ? floats : a.dtype === "bool" ? bools : integers;
    return forward({ a, b }, a.dtype, p);
  };
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
      const reads = (value: "a" | "b" | "y"): boolean =>
        back.some(({ inputs }, i) => needs[i] && inputs.includes(value));
      return { inputs: [reads("a"), reads("b")], output: reads("y") };
    },
    vjp: (inputs, p, y, dy, needs) => [
      needs[0] ? flow(0, inputs, y, dy, p) : null,
      needs[1] ? flow(1, inputs, y, dy, p) : null,
    ],
  });
  return op;
}
