/** Tensors and autograd on WebGPU. What a user imports; `./methods.ts` also gives {@link Tensor} its methods. */
import "./methods.ts";

export {
  bits,
  dtypes,
  type DType,
  fromBf16,
  fromF16,
  isFloat,
  promote,
  toBf16,
  toF16,
  type TypedArray,
} from "./dtype.ts";
export * from "./errors.ts";
export type { AdapterKind } from "./gpu/adapter.ts";
export type { Device, Limits } from "./gpu/device.ts";
export { type DeviceOptions, openDevice, openRehearsal } from "./gpu/open-device.ts";
export type { Memory } from "./gpu/pool.ts";
export type { Peak, Rehearsal } from "./gpu/rehearsal.ts";
export type { KernelTime } from "./gpu/timing.ts";
export { backward, type BackwardOptions, checkpoint, grad } from "./grad.ts";
export * from "./compositions.ts";
export * from "./losses.ts";
export { defineOp, type Op, type OpSpec, type Saves } from "./op.ts";
export { argmax, argmin } from "./ops/argmax.ts";
export { assign, copy } from "./ops/assign.ts";
export { binary, type BinaryName, type Operand } from "./ops/binary.ts";
export { cast } from "./ops/cast.ts";
export { compare, type CompareName, logicalAnd, logicalNot, logicalOr } from "./ops/compare.ts";
export { concat, split, stack } from "./ops/concat.ts";
export { cumsum } from "./ops/cumsum.ts";
export { gatherLast, gatherRows, type Indices, scatterAddRows } from "./ops/gather.ts";
export { flip, permute, type Range, select, slice, transpose } from "./ops/movement.ts";
export { pad, type Widths } from "./ops/pad.ts";
export { logSoftmax, softmax } from "./ops/softmax.ts";
export { topk, type TopK } from "./ops/topk.ts";
export { AdamW, type AdamWOptions } from "./optim/adamw.ts";
export { clipGradNorm, gradNorm } from "./optim/clip-grad-norm.ts";
export type { Group, Optimizer } from "./optim/optimizer.ts";
export * from "./optim/schedule.ts";
export { SGD, type SgdOptions } from "./optim/sgd.ts";
export type { OptimizerState, SavedParameter } from "./optim/state.ts";
export { bernoulli, type DrawOptions, rand, randint, randn, truncatedNormal } from "./random/draw.ts";
export { dropout } from "./random/dropout.ts";
export { calculateGain, init, type Nonlinearity } from "./random/init.ts";
export { key, RandomKey, type Seed } from "./random/key.ts";
export { philox } from "./random/philox.ts";
export { arange, full, type Nested, ones, tensor, type TensorOptions, zeros } from "./ops/create.ts";
export { expand, sumTo } from "./ops/expand.ts";
export { matmul, type MatmulOptions } from "./ops/matmul.ts";
export { addmm_, baddbmm_ } from "./ops/matmul-add.ts";
export { type AxesOption, max, mean, min, norm, type ReduceOptions, sum } from "./ops/reduce.ts";
export { flatten, reshape, squeeze, unsqueeze } from "./ops/reshape.ts";
export { unary, type UnaryName } from "./ops/unary.ts";
export { where } from "./ops/where.ts";
export { keep, scope } from "./scope.ts";
export { broadcast, type Dims, dims, print, sameShape, type Shape, size } from "./shape.ts";
export { isTaping, requireGrad, untaped } from "./tape.ts";
export { Tensor, type TensorSpec } from "./tensor.ts";
