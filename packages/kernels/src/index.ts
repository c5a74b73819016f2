/** Fused ops of @rot/tensor, each with the gradient that belongs to it. */
export { attention } from "./attention/attention.ts";
export type { AttentionOptions, AttentionRule } from "./attention/options.ts";
export { visibleKeys } from "./attention/visible.ts";
export { layerNorm } from "./layer-norm/layer-norm.ts";
export { rmsNorm } from "./rms-norm/rms-norm.ts";
export { rotary, type RotaryOptions } from "./rotary/rotary.ts";
export { swiglu } from "./swiglu/swiglu.ts";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./cross-entropy/cross-entropy.ts";
