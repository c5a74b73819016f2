import {
  binary,
  cast,
  defineOp,
  print,
  promote,
  rmsNorm as reference,
  ShapeError,
  type Tensor,
  zeros,
} from "@rot/tensor";
import { rmsNormBackward, rmsNormWeight } from "../rms-norm/backward.wgsl.ts";
import { checkFloats, checkGain, isWide, rowsOf, zerosLike } from "../shared/rows.ts";
import { addNormForward } from "./forward.wgsl.ts";

/**
 * The step from one block of a transformer to the next: what a block made is added to the residual stream, and the sum
 * normalised by its root mean square over the last axis for the block that follows.
 *
 *     sum = x + residual
 *     y = sum / √(mean(sum²) + eps) · weight
 *
 * Gradients flow through both. All is computed in f32.
 *
 * @param x         [..., D], f32, f16 or bf16
 * @param residual  [..., D], the shape of `x`
 * @param weight    [D], the learned gain
 * @param eps       added to the mean square, in the units of x²; Qwen3 uses 1e-6
 * @returns         [y, sum], each [..., D] in the dtype that x and residual promote to
 * @throws {ShapeError} when the shapes differ, `weight` is not as long as the last axis, or one of them holds no floats
 */
export const addNorm = defineOp<
  [x: Tensor, residual: Tensor, weight: Tensor],
  { readonly eps: number },
  readonly [y: Tensor, sum: Tensor]
>({
  name: "addNorm",
  outputs: 2,
  kernels: [addNormForward, rmsNormBackward],

  check([x, residual, weight]) {
    checkFloats("addNorm", { x, residual, weight });
    checkGain("addNorm", "weight", x, weight);
    if (print(x.shape) !== print(residual.shape)) {
      throw new ShapeError(`addNorm: x is ${print(x.shape)}, but residual is ${print(residual.shape)}`);
    }
  },

  reference([x, residual, weight], { eps }) {
    const sum = binary.add(x, residual);
    return [reference(sum, weight, eps), sum];
  },

  forward([x, residual, weight], { eps }) {
    const seen = rowsOf(x);
    const like = { shape: x.shape, dtype: promote(x.dtype, residual.dtype) };
    const { y, sum } = addNormForward(isWide(seen.width))(
      { x, residual, weight },
      { y: like, sum: like },
      { ...seen, eps },
    );
    return [y, sum];
  },

  saves: { inputs: [false, false, true], output: [false, true] },

  vjp([x, residual, weight], { eps }, [, sum], [dy, dsum], needs) {
    const inputs = [x, residual, weight] as const;
    if (x.size === 0) return zerosLike(sum, inputs);
    const split = (total: Tensor, dweight: Tensor | null): [Tensor | null, Tensor | null, Tensor | null] => [
      needs[0] ? cast(total, x.dtype) : null,
      needs[1] ? cast(total, residual.dtype) : null,
      dweight,
    ];
    if (!dy) {
      const none = needs[2] ? zeros(sum.device, weight.shape, weight.dtype) : null;
      return split(dsum as Tensor, none);
    }
    const seen = rowsOf(sum);
    const perRow = { shape: [seen.rows], dtype: "f32" } as const;
    const kernel = rmsNormBackward(isWide(seen.width));
    const { dx, scale } = kernel({ x: sum, weight, dy }, { dx: sum, scale: perRow }, { ...seen, eps });
    const dweight = needs[2] ? rmsNormWeight({ x: sum, dy, scale }, { weight: weight.dtype }).weight : null;
    return split(dsum ? binary.add(dx, dsum) : dx, dweight);
  },
});
