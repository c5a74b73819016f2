/**
 * What models are made of, in primitives: the meaning of each, and the oracle of the kernels that do it fast.
 *
 * Axes: B sequences · L tokens (q of the queries, k of the keys) · D model width · H query heads · G key/value heads ·
 * K head width · F feed-forward width
 */
import { ShapeError } from "./errors.ts";
import { binary } from "./ops/binary.ts";
import { cast } from "./ops/cast.ts";
import { compare } from "./ops/compare.ts";
import { concat } from "./ops/concat.ts";
import { arange } from "./ops/create.ts";
import { matmul } from "./ops/matmul.ts";
import { slice } from "./ops/movement.ts";
import { mean } from "./ops/reduce.ts";
import { reshape } from "./ops/reshape.ts";
import { softmax } from "./ops/softmax.ts";
import { unary } from "./ops/unary.ts";
import { where } from "./ops/where.ts";
import { scope } from "./scope.ts";
import { print, sameShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const { add, sub, mul } = binary;

/** @throws {ShapeError} unless `weight` is a vector as long as the last axis of `x` */
function checkGain(who: string, name: string, x: Tensor, weight: Tensor): void {
  const width = x.shape.at(-1);
  if (width === undefined || weight.rank !== 1 || weight.shape[0] !== width) {
    throw new ShapeError(
      `${who}: ${name} is ${print(weight.shape)}, x ${print(x.shape)}; it is as long as the last axis of x`,
    );
  }
}

/**
 * Root-mean-square normalisation over the last axis: x / √(mean(x²) + eps) · weight, computed in f32.
 *
 * @param x       [..., D]
 * @param weight  [D], the learned gain
 * @param eps     added to the mean square, in the units of x²; Qwen3 uses 1e-6
 * @returns       [..., D], in the dtype of x
 * @throws {ShapeError} when `weight` is not as long as the last axis of `x`
 * @see Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  checkGain("rmsNorm", "weight", x, weight);
  return scope(() => {
    const wide = cast(x, "f32");
    const scale = unary.rsqrt(add(mean(unary.square(wide), -1, { keepDim: true }), eps));
    return cast(mul(mul(wide, scale), cast(weight, "f32")), x.dtype);
  });
}

/**
 * Layer normalisation over the last axis: (x − mean) / √(variance + eps) · weight + bias, computed in f32. The variance
 * is that of the population: divided by D.
 *
 * @param x       [..., D]
 * @param weight  [D], the learned gain
 * @param bias    [D]
 * @param eps     added to the variance, in the units of x²
 * @returns       [..., D], in the dtype of x
 * @throws {ShapeError} when `weight` or `bias` is not as long as the last axis of `x`
 * @see Ba et al. 2016, https://arxiv.org/abs/1607.06450
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  checkGain("layerNorm", "weight", x, weight);
  checkGain("layerNorm", "bias", x, bias);
  return scope(() => {
    const wide = cast(x, "f32");
    const centred = sub(wide, mean(wide, -1, { keepDim: true }));
    const scale = unary.rsqrt(add(mean(unary.square(centred), -1, { keepDim: true }), eps));
    return cast(add(mul(mul(centred, scale), cast(weight, "f32")), cast(bias, "f32")), x.dtype);
  });
}

/**
 * x · weightᵀ + bias.
 *
 * @param x       [..., inputs]
 * @param weight  [outputs, inputs], as checkpoints have it
 * @param bias    [outputs]
 * @returns       [..., outputs]
 * @throws {ShapeError} when the shapes do not fit
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  if (bias && (bias.rank !== 1 || bias.shape[0] !== weight.shape[0])) {
    throw new ShapeError(`linear: bias is ${print(bias.shape)}, weight ${print(weight.shape)}`);
  }
  return scope(() => {
    const y = matmul(x, weight, { transposeB: true });
    return bias ? add(y, bias) : y;
  });
}

/**
 * The gated feed-forward block: down(silu(gate(x)) · up(x)), with its three weights.
 *
 * @param x     [..., D]
 * @param gate  [F, D]
 * @param up    [F, D]
 * @param down  [D, F]
 * @returns     [..., D]
 * @throws {ShapeError} when the shapes do not fit
 * @see Shazeer 2020, https://arxiv.org/abs/2002.05202
 */
export const swiglu = (x: Tensor, gate: Tensor, up: Tensor, down: Tensor): Tensor =>
  scope(() => linear(mul(unary.silu(linear(x, gate)), linear(x, up)), down));

/**
 * The two halves of the last axis exchanged, and the new first one negated: [a, b] becomes [−b, a].
 *
 * @throws {ShapeError} when the last axis is odd or missing
 */
export function rotateHalf(x: Tensor): Tensor {
  const width = x.shape.at(-1);
  if (width === undefined || width % 2 !== 0) {
    throw new ShapeError(`rotateHalf: the last axis of ${print(x.shape)} has no halves`);
  }
  const halves = Array<null>(x.rank - 1).fill(null);
  return scope(() => concat([unary.neg(slice(x, ...halves, [width / 2])), slice(x, ...halves, [0, width / 2])], -1));
}

/**
 * Rotary position embedding: x · cos + rotateHalf(x) · sin.
 *
 * @param x    [..., K]
 * @param cos  broadcast to x; its two halves are alike, one angle for each pair of lanes K/2 apart
 * @param sin  as cos
 * @returns    the shape and dtype of x
 * @see Su et al. 2021, https://arxiv.org/abs/2104.09864
 */
export const applyRotary = (x: Tensor, cos: Tensor, sin: Tensor): Tensor =>
  scope(() => cast(add(mul(x, cos), mul(rotateHalf(x), sin)), x.dtype));

/** What {@link attention} takes besides the tensors. */
export interface AttentionOptions {
  /** What scores are multiplied by; 1/√K by default. */
  readonly scale?: number;
  /** Query i sees no key after i + (Lk − Lq): the last query sees all of them, and a cached step all earlier ones. */
  readonly causal?: boolean;
  /** [B, Lk]: keys where it is 0 are seen by no query. */
  readonly mask?: Tensor | null;
}

/**
 * Grouped-query attention: softmax(q · kᵀ · scale) · v, where query head h reads key/value head ⌊h / (H/G)⌋.
 *
 * @param q  [B, H, Lq, K]
 * @param k  [B, G, Lk, K]; G divides H
 * @param v  [B, G, Lk, K]; its head width may be another
 * @returns  [B, H, Lq, K]; a query that sees no key at all gives NaN, as PyTorch's softmax does
 * @throws {ShapeError} when the shapes do not fit
 * @see Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { scale, causal = false, mask = null }: AttentionOptions = {},
): Tensor {
  const refuse = (): never => {
    const masked = mask ? `, mask ${print(mask.shape)}` : "";
    throw new ShapeError(
      `attention: q ${print(q.shape)}, k ${print(k.shape)}, v ${print(v.shape)}${masked} do not fit [B, H, Lq, K], [B, G, Lk, K], [B, G, Lk, K]${mask ? ", [B, Lk]" : ""}`,
    );
  };
  if (q.rank !== 4 || k.rank !== 4 || v.rank !== 4) return refuse();
  const { B, H, Lq, K } = q.dims("B H Lq K");
  const { G, Lk } = k.dims("_ G Lk _");
  const fits = k.shape[0] === B && k.shape[3] === K && v.shape.slice(0, 3).every((n, i) => n === k.shape[i]);
  if (!fits || (G === 0 ? H > 0 : H % G !== 0) || (mask && !sameShape(mask.shape, [B, Lk]))) return refuse();

  return scope(() => {
    const repeats = G === 0 ? 0 : H / G;
    const queries = reshape(q, [B, G, repeats, Lq, K]);
    const keys = reshape(k, [B, G, 1, Lk, K]);
    const values = reshape(v, [B, G, 1, Lk, v.shape[3] as number]);
    let scores = mul(matmul(queries, keys, { transposeB: true }), scale ?? K ** -0.5);
    if (causal) {
      const last = reshape(arange(q.device, Lk - Lq, Lk, 1, "i32"), [Lq, 1]);
      scores = where(compare.le(arange(q.device, 0, Lk, 1, "i32"), last), scores, -Infinity);
    }
    if (mask) scores = where(reshape(mask, [B, 1, 1, 1, Lk]), scores, -Infinity);
    return reshape(matmul(softmax(scores, -1), values), [B, H, Lq, v.shape[3] as number]);
  });
}
