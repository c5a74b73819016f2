/** Fused ops of @rot/tensor, each with the gradient that belongs to it. */
export { attention } from "./attention/attention.ts";
export { attentionRows, type AttentionRowsOptions } from "./attention/attention-rows.ts";
export type { AttentionOptions, AttentionRule } from "./attention/options.ts";
export { visibleKeys } from "./attention/visible.ts";
export { layerNorm } from "./layer-norm/layer-norm.ts";
export { linear, type LinearOptions } from "./linear/linear.ts";
export { rmsNorm } from "./rms-norm/rms-norm.ts";
export { rotary, type RotaryOptions } from "./rotary/rotary.ts";
export { swiglu } from "./swiglu/swiglu.ts";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./cross-entropy/cross-entropy.ts";
export { addNorm } from "./add-norm/add-norm.ts";
export { embedding } from "./embedding/embedding.ts";
export { fuse } from "./fuse/fuse.ts";
export type { Expression, Term } from "./fuse/expression.ts";
export { logProbs, sample, type SampleOptions, topLogProbs } from "./sampling/sampling.ts";
