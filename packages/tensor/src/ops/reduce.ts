/** Reductions with their gradients: sum, mean, max, min, norm. */
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { axisOf, print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { binary } from "./binary.ts";
import { cast } from "./cast.ts";
import { compare } from "./compare.ts";
import { expand } from "./expand.ts";
import { reduceAxes } from "./reduction.ts";
import { unary } from "./unary.ts";

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
}

const sumOp = defineOp<[x: Tensor], Params>({
  name: "sum",
  forward: ([x], { axes, shape }) => reduceAxes(x, axes, "sum").alias(shape),
  saves: { inputs: [false], output: false },
  vjp: ([x], { axes }, _, dy) => [expand(dy.alias(kept(x.shape, axes)), x.shape)],
});

/** max and min: the cotangent is shared evenly among the elements that attain it, as PyTorch's `amax` has it. */
const extreme = (name: "max" | "min") =>
  defineOp<[x: Tensor], Params>({
    name,
    forward: ([x], { axes, shape }) => reduceAxes(x, axes, name).alias(shape),
    vjp([x], { axes }, y, dy) {
      const hit = cast(compare.eq(x, y.alias(kept(x.shape, axes))), dy.dtype);
      const ties = reduceAxes(hit, axes, "sum").alias(kept(x.shape, axes));
      return [binary.mul(hit, binary.div(dy.alias(kept(x.shape, axes)), ties))];
    },
  });
const extremes = { max: extreme("max"), min: extreme("min") };

/** Sums of bools are counted in i32, as PyTorch counts them in an integer. */
const summable = (dtype: DType): DType => (dtype === "bool" ? "i32" : dtype);

/** The sum over some axes, or all. The sum of nothing is 0. Floats are added in f32. */
export function sum(x: Tensor, axes?: AxesOption, { keepDim = false }: ReduceOptions = {}): Tensor {
  const list = resolve(x, axes, "sum");
  return sumOp(cast(x, summable(x.dtype)), {
    axes: list,
    shape: keepDim ? kept(x.shape, list) : without(x.shape, list),
  });
}

/** The arithmetic mean over some axes, or all; a float. The mean of nothing is NaN. */
export function mean(x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor {
  const list = resolve(x, axes, "mean");
  const floats = isFloat(x.dtype) ? x : cast(x, "f32");
  return binary.div(sum(floats, list, options), size(list.map((axis) => x.shape[axis] as number)));
}

function attained(name: "max" | "min", x: Tensor, axes: AxesOption, { keepDim = false }: ReduceOptions): Tensor {
  const list = resolve(x, axes, name);
  const shape = keepDim ? kept(x.shape, list) : without(x.shape, list);
  if (size(x.shape) === 0 && size(shape) > 0)
    throw new ShapeError(`${name}: ${print(x.shape)} has no element to choose`);
  return extremes[name](x, { axes: list, shape });
}

/**
 * The largest element over some axes, or all; NaN if there is one.
 *
 * @throws {ShapeError} when there is nothing to choose from
 */
export const max = (x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor =>
  attained("max", x, axes, options);

/** The smallest element; see {@link max}. */
export const min = (x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor =>
  attained("min", x, axes, options);

/**
 * The Euclidean norm over some axes, or all: √Σx². Its gradient at the zero vector is 0.
 */
export function norm(x: Tensor, axes?: AxesOption, options: ReduceOptions = {}): Tensor {
  return unary.root(sum(unary.square(x), axes, options));
}
