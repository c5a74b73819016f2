/** What the cases of several ops share. */
import type { DType } from "@rot/tensor";

/** Dtypes of two tensors, so that each of both is once read and once written in each 16-bit dtype. */
export const halfPairs = [
  ["bf16", "f32"],
  ["f32", "bf16"],
  ["f16", "f16"],
  ["bf16", "bf16"],
  ["f16", "f32"],
] as const satisfies readonly (readonly [DType, DType])[];

/** The error of rounding once to the coarsest of some dtypes, relative to the largest value; 0 for f32. */
export const halfEpsilon = (...dtypes: readonly DType[]): number =>
  dtypes.includes("bf16") ? 2 ** -8 : dtypes.includes("f16") ? 2 ** -11 : 0;
