/** Repeating axes of length 1, and its adjoint. */
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { broadcastStrides, print, sameShape, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { reduceAxes, summable } from "./reduction.ts";
import { stridedRead } from "./strided.ts";

const expandOp = defineOp<[x: Tensor], Shape>({
  name: "expand",
  forward: ([x], shape) => stridedRead(x, { shape, strides: broadcastStrides(x.shape, shape), offset: 0 }),
  saves: { inputs: [false], output: false },
  vjp: ([x], _, __, dy) => [sumTo(dy, x.shape)],
});

/**
 * The tensor repeated along its axes of length 1, and along new leading ones. The data is copied; broadcasting ops need
 * no `expand`.
 *
 * @throws {ShapeError} when an axis is neither 1 nor already as long
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.rank;
  if (lead < 0 || x.shape.some((n, i) => n !== 1 && n !== shape[lead + i])) {
    throw new ShapeError(`expand: ${print(x.shape)} cannot become ${print(shape)}`);
  }
  return sameShape(x.shape, shape) ? x : expandOp(x, shape);
}

const sumToOp = defineOp<[x: Tensor], Shape>({
  name: "sumTo",
  forward([x], shape) {
    const extra = x.rank - shape.length;
    const axes = x.shape.flatMap((n, i) => (i < extra || (shape[i - extra] === 1 && n !== 1) ? [i] : []));
    return (axes.length > 0 ? reduceAxes(x, axes, "sum") : x).alias(shape);
  },
  saves: { inputs: [false], output: false },
  vjp: ([x], _, __, dy) => [expand(dy, x.shape)],
});

/**
 * Sums every axis that a tensor of `shape` would be broadcast along to become as large as `x`. Bools are counted
 * in i32.
 *
 * @throws {ShapeError} when `shape` does not broadcast to that of `x`
 */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return cast(x, summable(x.dtype));
  const extra = x.rank - shape.length;
  if (extra < 0 || shape.some((n, i) => n !== 1 && n !== x.shape[extra + i])) {
    throw new ShapeError(`sumTo: ${print(shape)} does not broadcast to ${print(x.shape)}`);
  }
  return sumToOp(cast(x, summable(x.dtype)), shape);
}
