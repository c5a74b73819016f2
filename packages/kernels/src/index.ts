/** Fused ops of @rot/tensor, each with the gradient that belongs to it. */
export { rmsNorm } from "./rms-norm/rms-norm.ts";
