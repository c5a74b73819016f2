import { defineOp, rmsNorm as reference, type Tensor } from "@rot/tensor";
import { checkFloats, checkGain, isWide, rowsOf, zerosLike } from "../shared/rows.ts";
import { rmsNormBackward, rmsNormWeight } from "./backward.wgsl.ts";
import { rmsNormForward } from "./forward.wgsl.ts";

/**
 * Root-mean-square normalisation over the last axis: `x / √(mean(x²) + eps) · weight`.
 *
 * Sums are accumulated in f32 whatever the dtypes.
 *
 * @param x       [..., D], f32, f16 or bf16
 * @param weight  [D], the learned gain, of any of these dtypes
 * @param eps     added to the mean square, in the units of x²; Qwen3 uses 1e-6
 * @returns       [..., D], in the dtype of `x`
 * @throws {ShapeError} when `weight` is not as long as the last axis of `x`, or one of them holds no floats
 * @see Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4
 */
export const rmsNorm = defineOp<[x: Tensor, weight: Tensor], { readonly eps: number }>({
  name: "rmsNorm",
  kernels: [rmsNormForward, rmsNormBackward],

  check([x, weight]) {
    checkFloats("rmsNorm", { x, weight });
    checkGain("rmsNorm", "weight", x, weight);
  },

  reference: ([x, weight], { eps }) => reference(x, weight, eps),

  forward([x, weight], { eps }) {
    const seen = rowsOf(x);
    return rmsNormForward(isWide(seen.width))({ x, weight }, { y: x }, { ...seen, eps }).y;
  },

  saves: { output: false },

  vjp([x, weight], { eps }, _y, dy, needs) {
    if (x.size === 0) return zerosLike(dy, [x, weight]);
    const seen = rowsOf(x);
    const perRow = { shape: [seen.rows], dtype: "f32" } as const;
    const kernel = rmsNormBackward(isWide(seen.width));
    const { dx, scale } = kernel({ x, weight, dy }, { dx: x, scale: perRow }, { ...seen, eps });
    const sums = needs[1] ? rmsNormWeight({ x, dy, scale }, { weight: weight.dtype }) : null;
    return [needs[0] ? dx : null, sums && sums.weight];
  },
});
