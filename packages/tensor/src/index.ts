/** Tensors and autograd on WebGPU. What a user imports; `./methods.ts` also gives {@link Tensor} its methods. */
import "./methods.ts";

export { dtypes, type DType, isFloat, promote, type TypedArray } from "./dtype.ts";
export * from "./errors.ts";
export type { AdapterKind } from "./gpu/adapter.ts";
export { type Device, type DeviceOptions, type Limits, openDevice } from "./gpu/device.ts";
export type { Memory } from "./gpu/pool.ts";
export type { KernelTime } from "./gpu/timing.ts";
export { backward, type BackwardOptions, checkpoint, grad } from "./grad.ts";
export { defineOp, type Op, type OpSpec } from "./op.ts";
export { binary, type BinaryName, type Operand } from "./ops/binary.ts";
export { cast } from "./ops/cast.ts";
export { compare, type CompareName, logicalAnd, logicalNot, logicalOr } from "./ops/compare.ts";
export { arange, full, type Nested, ones, tensor, type TensorOptions, zeros } from "./ops/create.ts";
export { expand, sumTo } from "./ops/expand.ts";
export { matmul, type MatmulOptions } from "./ops/matmul.ts";
export { type AxesOption, max, mean, min, norm, type ReduceOptions, sum } from "./ops/reduce.ts";
export { reshape, squeeze, unsqueeze } from "./ops/reshape.ts";
export { unary, type UnaryName } from "./ops/unary.ts";
export { where } from "./ops/where.ts";
export { keep, scope } from "./scope.ts";
export { broadcast, type Dims, dims, print, type Shape, size } from "./shape.ts";
export { isTaping, requireGrad, untaped } from "./tape.ts";
export { Tensor, type TensorSpec } from "./tensor.ts";
