/** What a kernel is made of: `import { defineKernel, wgsl } from "@rot/tensor/kernel"`. */
export { defineKernel } from "./kernel.ts";
export type { CallableKernel, CallOptions, Grid, Kernel, KernelSpec, Knobs, Scalar, Setting } from "./kernel.ts";
export type { Form } from "./bindings.ts";
export type { Device } from "./gpu/device.ts";
export { saveTunings } from "./gpu/open-device.ts";
export type { KnobValues, Tuned, TuneMode, UnknownCall } from "./gpu/tunings.ts";
export { emptyTensor } from "./tensor.ts";
export { main, wgsl, type WgslValue } from "./wgsl.ts";
export { philoxFunctions } from "./random/philox.wgsl.ts";
export { binaryRow } from "./ops/binary.ts";
export { unaryRow } from "./ops/unary.ts";
export { broadcastStrides, mergeAxes } from "./shape.ts";
export { type Activation, activations, activationVjp, type Ending } from "./ops/matmul-ending.wgsl.ts";
export { multiply, productKernel } from "./ops/matmul-product.ts";
