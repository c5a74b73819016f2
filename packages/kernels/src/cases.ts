/** Every op's cases by the name of its folder: what its tests check, for whoever wants to time it. */
import type { Tensor } from "@rot/tensor";
import type { Cases } from "@rot/tensor/cases";
import { cases as attention } from "./attention/attention.cases.ts";
import { cases as crossEntropy } from "./cross-entropy/cross-entropy.cases.ts";
import { cases as embedding } from "./embedding/embedding.cases.ts";
import { fusedCases as fuse } from "./fuse/fuse.cases.ts";
import { cases as layerNorm } from "./layer-norm/layer-norm.cases.ts";
import { cases as linear } from "./linear/linear.cases.ts";
import { cases as rmsNorm } from "./rms-norm/rms-norm.cases.ts";
import { cases as rotary } from "./rotary/rotary.cases.ts";
import { cases as swiglu } from "./swiglu/swiglu.cases.ts";

/** Cases whose types are forgotten: an op may be called with the inputs and parameters of its own cases, and no others. */
export type AnyCases = Cases<readonly Tensor[], unknown>;

const forget = <I extends readonly Tensor[], P>(cases: Cases<I, P>): AnyCases => cases as unknown as AnyCases;

/** By folder; one that has several ops has several lists. */
export const kernelCases: Readonly<Record<string, readonly AnyCases[]>> = {
  attention: [forget(attention)],
  "cross-entropy": [forget(crossEntropy)],
  embedding: [forget(embedding)],
  fuse: fuse.map((cases) => forget(cases)),
  "layer-norm": [forget(layerNorm)],
  linear: [forget(linear)],
  "rms-norm": [forget(rmsNorm)],
  rotary: [forget(rotary)],
  swiglu: [forget(swiglu)],
};
