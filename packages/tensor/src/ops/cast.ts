/** From one dtype to another. */
import { type DType, isFloat } from "../dtype.ts";
import { defineOp } from "../op.ts";
import type { Tensor } from "../tensor.ts";
import { pointwise } from "./pointwise.ts";

const convert = pointwise({ name: "cast", inputs: ["x"], expression: "x" });
const truth = pointwise({ name: "cast", inputs: ["x"], expression: "select(Y(0), Y(1), x != T(0))" });
// By their bits: compilers may take NaN for equal to 0, and adapters the smallest numbers for 0.
const floatTruth = pointwise({
  name: "cast",
  inputs: ["x"],
  expression: "select(Y(0), Y(1), (bitcast<C>(x) & C(0x7fffffffu)) != C(0u))",
});

const op = defineOp<[x: Tensor], DType>({
  name: "cast",
  forward([x], dtype) {
    const run = dtype !== "bool" ? convert : isFloat(x.dtype) ? floatTruth : truth;
    return run({ x }, dtype);
  },
  saves: { inputs: [false], output: false },
  vjp: ([x], dtype, _, dy) => [isFloat(x.dtype) && isFloat(dtype) ? cast(dy, x.dtype) : null],
});

/**
 * The same values in another dtype: floats are cut towards zero for integers, and anything but 0 is true.
 * The same tensor if it has that dtype already.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : op(x, dtype);
}
