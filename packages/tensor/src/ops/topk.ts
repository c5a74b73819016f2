/** The largest elements of each line, in order. */
import { scalarType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { axisOf, print } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { zeros } from "./create.ts";
import { type Lines, linesAlong } from "./lines.wgsl.ts";
import { orderChosen, put, selectLargest, take } from "./topk.wgsl.ts";

/** Up to this width all elements are candidates: comparing each with each is faster than a search. */
const NARROW = 256;

/** What {@link topk} gives. */
export interface TopK {
  /** In the dtype of the input, in descending order. */
  readonly values: Tensor;
  /** i32, along the axis. */
  readonly indices: Tensor<"i32">;
}

function find(x: Tensor, { outer, width, inner }: Lines, k: number, shape: readonly number[]): Tensor<"i32"> {
  const lines = outer * inner;
  const type = scalarType(x.dtype);
  const all = width <= NARROW || k === width;
  const chosen = all
    ? x
    : selectLargest(
        { x },
        { chosen: { shape: [lines, k], dtype: "u32" } },
        { width, inner, lines, k },
        { knobs: { type } },
      ).chosen;
  const uniforms = { width, inner, lines, k, count: all ? width : k };
  const { y } = orderChosen({ x, chosen }, { y: { shape, dtype: "i32" } }, uniforms, { knobs: { type, all } });
  if (chosen !== x) chosen.dispose();
  return y as Tensor<"i32">;
}

const valuesOp = defineOp<[x: Tensor, indices: Tensor], Lines & { k: number }>({
  name: "topk",
  forward: ([x, indices], { width, inner, k }) =>
    take({ x, indices }, { y: { shape: indices.shape, dtype: x.dtype } }, { width, inner, k, n: indices.size }).y,
  saves: { inputs: [false, true], output: false },
  vjp([x, indices], { width, inner, k }, _, dy) {
    const dx = zeros(dy.device, x.shape);
    put({ dy, indices, dx }, {}, { width, inner, k, n: indices.size });
    return [cast(dx, dy.dtype), null];
  },
});

/**
 * The k largest elements along an axis, in descending order; of equals the first comes first. NaN counts as the largest,
 * as in PyTorch. Gradients of the values flow to the chosen elements.
 *
 * Time grows with the width and with k²; it is meant for k of some dozens, not for sorting.
 *
 * @param k  from 0 to the length of the axis
 * @returns  values and indices, in the shape of `x` with length k along the axis
 * @throws {ShapeError} when there is no such axis, or it has fewer than k elements
 */
export function topk(x: Tensor, k: number, axis = -1): TopK {
  const at = axisOf(axis, x.rank, "topk");
  const lines = linesAlong(x.shape, at);
  if (!Number.isInteger(k) || k < 0 || k > lines.width) {
    throw new ShapeError(`topk: axis ${axis} of ${print(x.shape)} has no ${k} largest elements`);
  }
  const indices = find(x, lines, k, x.shape.with(at, k));
  return { values: valuesOp(x, indices, { ...lines, k }), indices };
}
