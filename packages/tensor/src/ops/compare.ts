/** Comparisons and logic: they give bool, and no gradient flows through them. */
import { isFloat, promote } from "../dtype.ts";
import { UsageError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { besideNumber, type Operand } from "./binary.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { pointwise } from "./pointwise.ts";

/** In WGSL over `a` and `b`; NaN is unequal to everything and compares false. */
const table = {
  eq: "a == b",
  ne: "a != b",
  lt: "a < b",
  le: "a <= b",
  gt: "a > b",
  ge: "a >= b",
} as const;

export type CompareName = keyof typeof table;

/** Every comparison: `compare.lt(a, b)` is a bool tensor of the broadcast shape. */
export const compare = Object.fromEntries(
  Object.entries(table).map(([name, row]) => [name, define(name, row)]),
) as Record<CompareName, (a: Operand, b: Operand) => Tensor<"bool">>;

function define(name: string, row: string): (a: Operand, b: Operand) => Tensor<"bool"> {
  const expression = `select(Y(0), Y(1), ${row})`;
  // A comparison with NaN may be compiled as if there were none, so floats are told apart by their bits.
  const float = `select(${expression}, Y(${name === "ne" ? 1 : 0}), is_nan(a) | is_nan(b))`;
  const ofFloats = pointwise({ name, inputs: ["a", "b"], expression: float });
  const ofIntegers = pointwise({ name, inputs: ["a", "b"], expression });
  return (a, b) => {
    const x = a instanceof Tensor ? a : b;
    if (!(x instanceof Tensor))
      throw new UsageError(`${name}: one of its operands must be a tensor, got ${String(a)} and ${String(b)}`);
    const lift = (value: Operand): Tensor =>
      value instanceof Tensor ? value : full(x.device, [], value, besideNumber(x.dtype, value));
    const [left, right] = [lift(a), lift(b)];
    const dtype = promote(left.dtype, right.dtype);
    const run = isFloat(dtype) ? ofFloats : ofIntegers;
    return run({ a: cast(left, dtype), b: cast(right, dtype) }, "bool") as Tensor<"bool">;
  };
}

const and = pointwise({ name: "logicalAnd", inputs: ["a", "b"], expression: "a & b" });
const or = pointwise({ name: "logicalOr", inputs: ["a", "b"], expression: "a | b" });
const not = pointwise({ name: "logicalNot", inputs: ["a"], expression: "T(1) - a" });
const truth = (x: Tensor): Tensor => cast(x, "bool");

/** Where both are true. Anything but 0 is true. */
export const logicalAnd = (a: Tensor, b: Tensor): Tensor<"bool"> =>
  and({ a: truth(a), b: truth(b) }, "bool") as Tensor<"bool">;

/** Where one of them is true. */
export const logicalOr = (a: Tensor, b: Tensor): Tensor<"bool"> =>
  or({ a: truth(a), b: truth(b) }, "bool") as Tensor<"bool">;

/** Where it is false. */
export const logicalNot = (a: Tensor): Tensor<"bool"> => not({ a: truth(a) }, "bool") as Tensor<"bool">;
