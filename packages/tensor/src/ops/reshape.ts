/** Another shape over the same memory. */
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { axisOf, checkShape, print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const op = defineOp<[x: Tensor], Shape>({
  name: "reshape",
  forward: ([x], shape) => x.alias(shape),
  saves: { inputs: [false], output: false },
  vjp: ([x], _, __, dy) => [dy.alias(x.shape)],
});

/**
 * The same elements, in the same order, under another shape. No data moves.
 *
 * @param shape  one axis may be -1: it takes what is left
 * @throws {ShapeError} when the sizes differ
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const open = shape.indexOf(-1);
  const known = size(shape.filter((n) => n !== -1));
  const whole = open < 0 ? shape : shape.map((n, i) => (i === open && known > 0 ? size(x.shape) / known : n));
  if (whole.some((n) => n < 0 || !Number.isInteger(n)) || size(whole) !== size(x.shape)) {
    throw new ShapeError(`reshape: ${print(x.shape)} has ${size(x.shape)} elements and cannot become ${print(shape)}`);
  }
  checkShape(whole, "reshape");
  return op(x, whole);
}

/**
 * Without the axes of length 1, or without those given.
 *
 * @throws {ShapeError} when there is no such axis, or one has another length
 */
export function squeeze(x: Tensor, ...axes: number[]): Tensor {
  const gone = new Set(axes.map((axis) => axisOf(axis, x.rank, "squeeze")));
  for (const axis of gone) {
    if (x.shape[axis] !== 1) throw new ShapeError(`squeeze: axis ${axis} of ${print(x.shape)} is not 1`);
  }
  return reshape(
    x,
    x.shape.filter((n, i) => (gone.size > 0 ? !gone.has(i) : n !== 1)),
  );
}

/**
 * With a new axis of length 1.
 *
 * @param axis  where the new axis will be; -1 is the last of the result
 * @throws {ShapeError} when there is no such place
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  return reshape(x, x.shape.toSpliced(axisOf(axis, x.rank + 1, "unsqueeze"), 0, 1));
}

/**
 * Without the borders between some neighbouring axes: from `first` to `last`, both included, they become one. By default
 * all of them; a scalar becomes a vector of one.
 *
 * @throws {ShapeError} when there is no such axis, or `last` comes before `first`
 */
export function flatten(x: Tensor, first = 0, last = -1): Tensor {
  if (x.rank === 0) return reshape(x, [1]);
  const [begin, end] = [axisOf(first, x.rank, "flatten"), axisOf(last, x.rank, "flatten") + 1];
  if (begin >= end) throw new ShapeError(`flatten: axis ${last} of ${print(x.shape)} comes before axis ${first}`);
  return reshape(x, x.shape.toSpliced(begin, end - begin, size(x.shape.slice(begin, end))));
}
