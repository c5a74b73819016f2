import { defineOp, layerNorm as reference, type Tensor } from "@rot/tensor";
import { checkFloats, checkGain, isWide, rowsOf, zerosLike } from "../shared/rows.ts";
import { layerNormBackward, layerNormGains } from "./backward.wgsl.ts";
import { layerNormForward } from "./forward.wgsl.ts";

/**
 * Layer normalisation over the last axis: `(x − mean) / √(variance + eps) · weight + bias`. The variance is that of the
 * population: divided by D.
 *
 * Sums are accumulated in f32 whatever the dtypes, and squares are taken around the mean.
 *
 * @param x       [..., D], f32, f16 or bf16
 * @param weight  [D], the learned gain, of any of these dtypes
 * @param bias    [D]
 * @param eps     added to the variance, in the units of x²
 * @returns       [..., D], in the dtype of `x`
 * @throws {ShapeError} when `weight` or `bias` is not as long as the last axis of `x`, or one of the three holds no floats
 * @see Ba et al. 2016, https://arxiv.org/abs/1607.06450, eq. 3
 */
export const layerNorm = defineOp<[x: Tensor, weight: Tensor, bias: Tensor], { readonly eps: number }>({
  name: "layerNorm",
  kernels: [layerNormForward, layerNormBackward],

  check([x, weight, bias]) {
    checkFloats("layerNorm", { x, weight, bias });
    checkGain("layerNorm", "weight", x, weight);
    checkGain("layerNorm", "bias", x, bias);
  },

  reference: ([x, weight, bias], { eps }) => reference(x, weight, bias, eps),

  forward([x, weight, bias], { eps }) {
    const seen = rowsOf(x);
    return layerNormForward(isWide(seen.width))({ x, weight, bias }, { y: x }, { ...seen, eps }).y;
  },

  saves: { inputs: [true, true, false], output: false },

  vjp([x, weight, bias], { eps }, _y, dy, needs) {
    if (x.size === 0) return zerosLike(dy, [x, weight, bias]);
    const seen = rowsOf(x);
    const perRow = { shape: [seen.rows], dtype: "f32" } as const;
    const kernel = layerNormBackward(isWide(seen.width));
    const { dx, mean, scale } = kernel({ x, weight, dy }, { dx: x, mean: perRow, scale: perRow }, { ...seen, eps });
    const dtypes = { weight: weight.dtype, bias: bias.dtype };
    const sums = needs[1] || needs[2] ? layerNormGains({ x, dy, mean, scale }, dtypes) : null;
    return [needs[0] ? dx : null, needs[1] && sums ? sums.weight : null, needs[2] && sums ? sums.bias : null];
  },
});
