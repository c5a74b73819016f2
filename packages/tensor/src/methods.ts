/** Gives `Tensor` its methods. The only file that knows both the class and the ops. */
import type { DType } from "./dtype.ts";
import { backward, type BackwardOptions } from "./grad.ts";
import { argmax, argmin } from "./ops/argmax.ts";
import { assign } from "./ops/assign.ts";
import { binary, type BinaryName, type Operand } from "./ops/binary.ts";
import { cast } from "./ops/cast.ts";
import { compare, type CompareName } from "./ops/compare.ts";
import { split } from "./ops/concat.ts";
import { cumsum } from "./ops/cumsum.ts";
import { expand, sumTo } from "./ops/expand.ts";
import { gatherRows, type Indices } from "./ops/gather.ts";
import { matmul, type MatmulOptions } from "./ops/matmul.ts";
import { flip, permute, type Range, select, slice, transpose } from "./ops/movement.ts";
import { pad, type Widths } from "./ops/pad.ts";
import { type AxesOption, max, mean, min, norm, type ReduceOptions, sum } from "./ops/reduce.ts";
import { flatten, reshape, squeeze, unsqueeze } from "./ops/reshape.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { topk, type TopK } from "./ops/topk.ts";
import { unary, type UnaryName } from "./ops/unary.ts";
import type { Shape } from "./shape.ts";
import { requireGrad } from "./tape.ts";
import { Tensor } from "./tensor.ts";

type Unaries = { readonly [N in UnaryName]: () => Tensor };
type Binaries = { readonly [N in BinaryName]: (other: Operand) => Tensor };
type Comparisons = { readonly [N in CompareName]: (other: Operand) => Tensor<"bool"> };

/** Numbers one by one or as one list, as PyTorch takes shapes. */
type Numbers = number[] | [numbers: readonly number[]];
const listed = (numbers: Numbers): readonly number[] =>
  Array.isArray(numbers[0]) ? numbers[0] : (numbers as readonly number[]);

declare module "./tensor.ts" {
  // oxlint-disable-next-line no-unused-vars -- a merged interface repeats the class's parameters
  interface Tensor<D extends DType> extends Unaries, Binaries, Comparisons {
    /** @see {@link cast} */
    to(dtype: DType): Tensor;
    /** @see {@link sum} */
    sum(axes?: AxesOption, options?: ReduceOptions): Tensor;
    /** @see {@link mean} */
    mean(axes?: AxesOption, options?: ReduceOptions): Tensor;
    /** @see {@link max} */
    max(axes?: AxesOption, options?: ReduceOptions): Tensor;
    /** @see {@link min} */
    min(axes?: AxesOption, options?: ReduceOptions): Tensor;
    /** @see {@link norm} */
    norm(axes?: AxesOption, options?: ReduceOptions): Tensor;
    /** @see {@link reshape} */
    reshape(...shape: Numbers): Tensor;
    /** @see {@link flatten} */
    flatten(first?: number, last?: number): Tensor;
    /** @see {@link squeeze} */
    squeeze(...axes: number[]): Tensor;
    /** @see {@link unsqueeze} */
    unsqueeze(axis: number): Tensor;
    /** @see {@link expand} */
    expand(...shape: Numbers): Tensor;
    /** @see {@link sumTo} */
    sumTo(shape: Shape): Tensor;
    /** @see {@link argmax} */
    argmax(axis?: number, options?: ReduceOptions): Tensor<"i32">;
    /** @see {@link argmin} */
    argmin(axis?: number, options?: ReduceOptions): Tensor<"i32">;
    /** @see {@link cumsum} */
    cumsum(axis: number): Tensor;
    /** @see {@link topk} */
    topk(k: number, axis?: number): TopK;
    /** @see {@link softmax} */
    softmax(axis?: number): Tensor;
    /** @see {@link logSoftmax} */
    logSoftmax(axis?: number): Tensor;
    /** @see {@link permute} */
    permute(...axes: Numbers): Tensor;
    /** @see {@link transpose} */
    transpose(axisA?: number, axisB?: number): Tensor;
    /** @see {@link slice} */
    slice(...ranges: Range[]): Tensor;
    /** @see {@link select} */
    select(axis: number, index: number): Tensor;
    /** @see {@link flip} */
    flip(axes?: number | readonly number[]): Tensor;
    /** @see {@link pad} */
    pad(widths: readonly Widths[], value?: number): Tensor;
    /** @see {@link split} */
    split(sizes: number | readonly number[], axis?: number): Tensor[];
    /** @see {@link gatherRows} */
    gatherRows(indices: Indices): Tensor;
    /** @see {@link assign} */
    assign(values: Tensor): this;
    /** @see {@link matmul} */
    matmul(other: Tensor, options?: MatmulOptions): Tensor;
    /** The same memory, off the tape. */
    detach(): Tensor<D>;
    /** @see {@link requireGrad} */
    requireGrad(): this;
    /** @see {@link backward} */
    backward(options?: BackwardOptions): void;
  }
}

/** Functions whose first argument becomes `this`. */
const functions = {
  ...unary,
  ...binary,
  ...compare,
  to: cast,
  sum,
  mean,
  max,
  min,
  norm,
  argmax,
  argmin,
  cumsum,
  topk,
  softmax,
  logSoftmax,
  transpose,
  slice,
  select,
  flip,
  pad,
  split,
  gatherRows,
  assign,
  flatten,
  squeeze,
  unsqueeze,
  sumTo,
  matmul,
  requireGrad,
  backward,
  permute: (x: Tensor, ...axes: Numbers) => permute(x, listed(axes)),
  reshape: (x: Tensor, ...shape: Numbers) => reshape(x, listed(shape)),
  expand: (x: Tensor, ...shape: Numbers) => expand(x, listed(shape)),
  detach: (x: Tensor) => x.alias(),
};

for (const [name, run] of Object.entries(functions) as [string, (x: Tensor, ...rest: unknown[]) => unknown][]) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return run(this, ...rest);
    },
  });
}
