/** Reductions with their gradients: sum, mean, max, min, norm. */
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { axisOf, print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { binary } from "./binary.ts";
import { cast } from "./cast.ts";
import { expand } from "./expand.ts";
import { floating, pointwise } from "./pointwise.ts";
import { reduceAxes, summable } from "./reduction.ts";
import { unary } from "./unary.ts";
import { where } from "./where.ts";

/** The axes to reduce: one, several, or all. Negative ones count from the end. */
export type AxesOption = number | readonly number[] | undefined;

/** What every reduction takes besides the axes. */
export interface ReduceOptions {
  /** Leaves the reduced axes in place with length 1. */
  readonly keepDim?: boolean;
}

function resolve(x: Tensor, axes: AxesOption, who: string): number[] {
  if (axes === undefined) return x.shape.map((_, i) => i);
  const list = (typeof axes === "number" ? [axes] : axes).map((axis) => axisOf(axis, x.rank, who));
  if (new Set(list).size !== list.length) throw new ShapeError(`${who}: an axis is named twice in ${print(list)}`);
  return list;
}

const kept = (shape: Shape, axes: readonly number[]): number[] => shape.map((n, i) => (axes.includes(i) ? 1 : n));
const without = (shape: Shape, axes: readonly number[]): number[] => shape.filter((_, i) => !axes.includes(i));

interface Params {
  readonly axes: readonly number[];
  readonly shape: Shape;
  /** Of the result. */
  readonly dtype: DType;
}

const sumOp = defineOp<[x: Tensor], Params>({
  name: "sum",
  forward: ([x], { axes, shape, dtype }) => reduceAxes(x, axes, "sum", dtype).alias(shape),
  saves: { inputs: [false], output: false },
  vjp: ([x], { axes }, _, dy) => [expand(cast(dy, x.dtype).alias(kept(x.shape, axes)), x.shape)],
});

const attains = pointwise({
  name: "attains",
  inputs: ["x", "y"],
  expression: "select(Y(0), Y(1), (x == y) | (is_nan(x) & is_nan(y)))",
});

/** max and min: the cotangent is shared evenly among the elements that attain it, as PyTorch's `amax` has it. */
const extreme = (name: "max" | "min") =>
  defineOp<[x: Tensor], Params>({
    name,
    forward: ([x], { axes, shape }) => reduceAxes(x, axes, name).alias(shape),
    vjp([x], { axes }, y, dy) {
      const hit = attains({ x, y: y.alias(kept(x.shape, axes)) }, "bool");
      const ties = reduceAxes(hit, axes, "sum", "u32").alias(kept(x.shape, axes));
      const share = binary.div(cast(dy, "f32").alias(ties.shape), cast(ties, "f32"));
      return [cast(where(hit, share, 0), dy.dtype)];
    },
  });
const extremes = { max: extreme("max"), min: extreme("min") };

const reducedShape = (x: Tensor, axes: readonly number[], { keepDim = false }: ReduceOptions): Shape =>
  keepDim ? kept(x.shape, axes) : without(x.shape, axes);

/**
 * The sum over some axes, or all. The sum of nothing is 0. Floats are added in f32; bools are counted in i32.
 *
 * @throws {ShapeError} when an axis does not exist or is named twice
 */
export function sum(x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor {
  const list = resolve(x, axes, "sum");
  const numbers = cast(x, summable(x.dtype));
  return sumOp(numbers, { axes: list, shape: reducedShape(x, list, options), dtype: numbers.dtype });
}

/** The sum in f32, whatever the float or integer. */
function wideSum(x: Tensor, axes: readonly number[], options: ReduceOptions): Tensor {
  const floats = isFloat(x.dtype) ? x : cast(x, "f32");
  return sumOp(floats, { axes, shape: reducedShape(x, axes, options), dtype: "f32" });
}

/**
 * The arithmetic mean over some axes, or all; a float, added in f32. The mean of nothing is NaN.
 *
 * @throws {ShapeError} when an axis does not exist or is named twice
 */
export function mean(x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor {
  const list = resolve(x, axes, "mean");
  const count = size(list.map((axis) => x.shape[axis] as number));
  return cast(binary.div(wideSum(x, list, options), count), floating(x.dtype));
}

function attained(name: "max" | "min", x: Tensor, axes: AxesOption, options: ReduceOptions): Tensor {
  const list = resolve(x, axes, name);
  const shape = reducedShape(x, list, options);
  if (size(x.shape) === 0 && size(shape) > 0)
    throw new ShapeError(`${name}: ${print(x.shape)} has no element to choose`);
  return extremes[name](x, { axes: list, shape, dtype: x.dtype });
}

/**
 * The largest element over some axes, or all; NaN if there is one.
 *
 * @throws {ShapeError} when there is nothing to choose from, or an axis does not exist or is named twice
 */
export const max = (x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor =>
  attained("max", x, axes, options);

/** The smallest element; see {@link max}. */
export const min = (x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor =>
  attained("min", x, axes, options);

/**
 * The Euclidean norm over some axes, or all: √Σx², a float, squared and added in f32. Its gradient at the zero vector
 * is 0.
 *
 * @throws {ShapeError} when an axis does not exist or is named twice
 */
export function norm(x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor {
  const squares = unary.square(cast(x, "f32"));
  return cast(unary.root(wideSum(squares, resolve(x, axes, "norm"), options)), floating(x.dtype));
}
