/** A frame of one value around a tensor. */
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { print, strides } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { place, stridedRead, type Walk } from "./strided.ts";

/** Elements to add before and after an axis. */
export type Widths = readonly [before: number, after: number];

interface Params {
  readonly widths: readonly Widths[];
  readonly value: number;
}

const op = defineOp<[x: Tensor], Params>({
  name: "pad",
  forward([x], { widths, value }) {
    const shape = x.shape.map((n, d) => n + (widths[d]?.[0] ?? 0) + (widths[d]?.[1] ?? 0));
    return place(x, shape, inside(x, widths, shape), value);
  },
  saves: { inputs: [false], output: false },
  vjp: ([x], { widths }, _, dy) => [stridedRead(dy, inside(x, widths, dy.shape))],
});

/** Where the elements of `x` lie in the padded shape. */
function inside(x: Tensor, widths: readonly Widths[], shape: readonly number[]): Walk {
  const steps = strides(shape);
  const offset = widths.reduce((sum, [before], d) => sum + before * (steps[d] as number), 0);
  return { shape: x.shape, strides: steps, offset };
}

/**
 * Adds elements of one value before and after each axis, as NumPy's `pad` in mode `constant`.
 *
 * `pad(x, [[0, 0], [1, 2]])` puts one column of zeros on the left of a matrix and two on the right.
 *
 * @param widths  `[before, after]` for every axis of `x`
 * @param value   what the new elements are, in the dtype of `x`
 * @throws {ShapeError} when there is not one pair for each axis, or a width is no whole number of at least 0
 */
export function pad(x: Tensor, widths: readonly Widths[], value = 0): Tensor {
  if (widths.length !== x.rank) {
    throw new ShapeError(`pad: ${widths.length} pairs of widths for ${print(x.shape)}; it takes one for each axis`);
  }
  for (const [d, [before, after]] of widths.entries()) {
    if (![before, after].every((n) => Number.isSafeInteger(n) && n >= 0)) {
      throw new ShapeError(`pad: axis ${d} of ${print(x.shape)} cannot be widened by [${before}, ${after}]`);
    }
  }
  return op(x, { widths, value });
}
