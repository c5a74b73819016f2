/** A choice between two tensors, element by element. */
import { promote } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { Tensor } from "../tensor.ts";
import { besideNumber, type Operand } from "./binary.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { sumTo } from "./expand.ts";
import { pointwise } from "./pointwise.ts";

const choose = pointwise({ name: "where", inputs: ["c", "a", "b"], expression: "select(b, a, c != C(0u))" });
const whereTrue = pointwise({ name: "where.vjp", inputs: ["dy", "c"], expression: "select(T(0), dy, c != C(0u))" });
const whereFalse = pointwise({ name: "where.vjp", inputs: ["dy", "c"], expression: "select(dy, T(0), c != C(0u))" });

const op = defineOp<[c: Tensor, a: Tensor, b: Tensor]>({
  name: "where",
  forward: ([c, a, b]) => choose({ c, a, b }, a.dtype),
  saves: { inputs: [true, false, false], output: false },
  vjp: ([c, a, b], _, __, dy, needs) => [
    null,
    needs[1] ? sumTo(whereTrue({ dy, c }, dy.dtype), a.shape) : null,
    needs[2] ? sumTo(whereFalse({ dy, c }, dy.dtype), b.shape) : null,
  ],
});

/**
 * `a` where the condition is true, `b` elsewhere; all three broadcast. A NaN that is not chosen leaves no trace, neither
 * in the result nor in the gradient.
 *
 * @param condition  of any dtype: anything but 0 is true
 * @returns          the broadcast shape, in the dtype that `a` and `b` promote to
 * @throws {ShapeError} when the shapes do not broadcast
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const tensors = [a, b].filter((x) => x instanceof Tensor);
  const like = tensors[0]?.dtype ?? "f32";
  const lift = (x: Operand): Tensor => (x instanceof Tensor ? x : full(condition.device, [], x, besideNumber(like, x)));
  const [left, right] = [lift(a), lift(b)];
  const dtype = promote(left.dtype, right.dtype);
  return op(cast(condition, "bool"), cast(left, dtype), cast(right, dtype), undefined);
}
