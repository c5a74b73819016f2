/** What the cases of several ops share. */
import type { DType } from "@rot/tensor";

/** The error of rounding once to the coarsest of some dtypes, relative to the largest value; 0 for f32. */
export const halfEpsilon = (...dtypes: readonly DType[]): number =>
  dtypes.includes("bf16") ? 2 ** -8 : dtypes.includes("f16") ? 2 ** -11 : 0;
