/** Elements in another order, or only some of them: permute, transpose, slice, select, flip. The data is copied. */
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { axisOf, print, sameShape, type Shape, strides } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { place, stridedRead, type Walk } from "./strided.ts";

const permuteOp = defineOp<[x: Tensor], readonly number[]>({
  name: "permute",
  forward: ([x], axes) => permuted(x, axes),
  saves: { inputs: [false], output: false },
  vjp: (_, axes, __, dy) => [
    permuted(
      dy,
      axes.map((_axis, d) => axes.indexOf(d)),
    ),
  ],
});

/** Off the tape. */
function permuted(x: Tensor, axes: readonly number[]): Tensor {
  const shape = axes.map((axis) => x.shape[axis] as number);
  const moved = axes.filter((axis) => x.shape[axis] !== 1);
  // Where only axes of length 1 change places, so does nothing in memory.
  if (moved.every((axis, i) => i === 0 || axis > (moved[i - 1] as number))) return x.alias(shape);
  const own = strides(x.shape);
  return stridedRead(x, { shape, strides: axes.map((axis) => own[axis] as number), offset: 0 });
}

/**
 * The axes in another order: `y.shape[i]` is `x.shape[axes[i]]`.
 *
 * @param axes  every axis of `x` once; negative ones count from the end
 * @throws {ShapeError} when an axis is missing, named twice or not there
 */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const order = axes.map((axis) => axisOf(axis, x.rank, "permute"));
  if (order.length !== x.rank || new Set(order).size !== order.length) {
    throw new ShapeError(`permute: ${print(axes)} does not name every axis of ${print(x.shape)} once`);
  }
  return permuteOp(x, order);
}

/**
 * Two axes exchanged: by default the last two, as of a matrix or a batch of them.
 *
 * @throws {ShapeError} when there is no such axis
 */
export function transpose(x: Tensor, axisA = -2, axisB = -1): Tensor {
  const [a, b] = [axisOf(axisA, x.rank, "transpose"), axisOf(axisB, x.rank, "transpose")];
  return permuteOp(
    x,
    x.shape.map((_, d) => (d === a ? b : d === b ? a : d)),
  );
}

const walkOp = defineOp<[x: Tensor], Walk>({
  name: "slice",
  forward: ([x], walk) => stridedRead(x, walk),
  saves: { inputs: [false], output: false },
  vjp: ([x], walk, _, dy) => [place(dy, x.shape, walk)],
});

/**
 * Which indices of an axis {@link slice} takes: `null` all of them, otherwise `[begin, end, step]` as NumPy's
 * `begin:end:step`. `begin` is included and `end` is not; negative ones count from the end; what lies outside is cut off.
 * Without a step it is 1; a negative step goes backwards. A missing or null `begin` or `end` is the end of the axis on
 * that side: `[2]` is `2:`, `[null, -1]` is `:-1`, and `[null, null, -1]` is `::-1`.
 */
export type Range = null | readonly [begin?: number | null, end?: number | null, step?: number];

/**
 * A part of each axis, as NumPy's `x[a:b, c:d:e, :, …]`.
 *
 * `slice(x, [0, 2], null, [null, null, -1])` is `x[0:2, :, ::-1]`.
 *
 * @param ranges  one for each axis, outermost first; axes without one are taken whole
 * @returns       the same rank; the same tensor if nothing is left out or turned round
 * @throws {ShapeError} when there are more ranges than axes, a bound is no whole number, or a step is 0
 */
export function slice(x: Tensor, ...ranges: readonly Range[]): Tensor {
  if (ranges.length > x.rank) {
    throw new ShapeError(`slice: ${ranges.length} ranges are too many for ${print(x.shape)}`);
  }
  const own = strides(x.shape);
  const shape: number[] = [];
  const steps: number[] = [];
  let offset = 0;
  for (const [d, length] of x.shape.entries()) {
    const { first, step, count } = resolve(ranges[d] ?? null, length, x.shape);
    shape.push(count);
    steps.push(step * (own[d] as number));
    offset += first * (own[d] as number);
  }
  const whole = sameShape(shape, x.shape) && steps.every((step, d) => step === own[d]);
  return whole ? x : walkOp(x, { shape, strides: steps, offset });
}

/** NumPy's rules for one axis: where it begins, how it goes on, and for how long. */
function resolve(range: Range, length: number, shape: Shape): { first: number; step: number; count: number } {
  const [begin = null, end = null, step = 1] = range ?? [];
  if (![begin ?? 0, end ?? 0, step].every(Number.isInteger) || step === 0) {
    throw new ShapeError(`slice: [${begin}, ${end}, ${step}] is no range of an axis of ${print(shape)}`);
  }
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const clip = (at: number): number => Math.min(Math.max(at < 0 ? at + length : at, lowest), highest);
  const first = begin === null ? (step > 0 ? lowest : highest) : clip(begin);
  const stop = end === null ? (step > 0 ? highest : lowest) : clip(end);
  const count = Math.max(0, Math.ceil((stop - first) / step));
  // An axis of which nothing is left may begin outside the tensor; no element is read there.
  return { first: count === 0 ? 0 : first, step, count };
}

/**
 * One index of an axis, which is gone from the result: NumPy's `x[:, index]` for axis 1.
 *
 * @param index  negative ones count from the end
 * @throws {ShapeError} when there is no such axis or index
 */
export function select(x: Tensor, axis: number, index: number): Tensor {
  const d = axisOf(axis, x.rank, "select");
  const length = x.shape[d] as number;
  const at = index < 0 ? index + length : index;
  if (!Number.isInteger(at) || at < 0 || at >= length) {
    throw new ShapeError(`select: axis ${axis} of ${print(x.shape)} has no index ${index}`);
  }
  const own = strides(x.shape);
  const walk = { shape: x.shape.toSpliced(d, 1), strides: own.toSpliced(d, 1), offset: at * (own[d] as number) };
  return walkOp(x, walk);
}

/**
 * Some axes turned round, or all of them.
 *
 * @param axes  negative ones count from the end
 * @throws {ShapeError} when there is no such axis
 */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  const list = axes === undefined ? x.shape.map((_, d) => d) : typeof axes === "number" ? [axes] : axes;
  const turned = new Set(list.map((axis) => axisOf(axis, x.rank, "flip")));
  return slice(x, ...x.shape.map((_, d): Range => (turned.has(d) ? [null, null, -1] : null)));
}
