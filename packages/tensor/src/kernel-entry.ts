/** What a kernel is made of: `import { defineKernel, wgsl } from "@rot/tensor/kernel"`. */
export { defineKernel } from "./kernel.ts";
export type { CallableKernel, CallOptions, Grid, Kernel, KernelSpec, Knobs, Scalar, Setting } from "./kernel.ts";
export type { Form } from "./bindings.ts";
export type { Device } from "./gpu/device.ts";
export { saveTunings } from "./gpu/open-device.ts";
export { hashOf, type KnobValues, type Tuned, type TuneMode, type UnknownCall } from "./gpu/tunings.ts";
export { powerOfFour, tunedSetting } from "./knobs.ts";
export { emptyTensor } from "./tensor.ts";
export { fromLane, main, wgsl, type WgslValue } from "./wgsl.ts";
export { philoxFunctions } from "./random/philox.wgsl.ts";
export { binaryRow } from "./ops/binary.ts";
export { unaryRow } from "./ops/unary.ts";
export { broadcastStrides, mergeAxes } from "./shape.ts";
export { type Activation, activations, activationVjp, type Ending } from "./ops/matmul-ending.wgsl.ts";
export { isVectorUnit } from "./ops/matmul-plan.ts";
export { multiply } from "./ops/matmul-product.ts";
export { productEndings, productKernel } from "./ops/matmul-settings.ts";
