// Axes: B sequences · L tokens (q of the queries, k of the keys) · H query heads · G key/value heads · K head width · W width of the values
import { cast, defineOp, isFloat, pad, print, scope, ShapeError, slice, type Tensor, zeros } from "@rot/tensor";
import { zerosLike } from "../shared/rows.ts";
import { attentionKernels } from "./kernels.ts";
import { type AttentionOptions, type AttentionParams, checkRules, checkVisible } from "./options.ts";
import { referenceAttention } from "./reference.ts";
import { attend, attendBack } from "./run.ts";

/** The op behind {@link attention}: K and W are multiples of 4, and `visible` is the fourth tensor, if there is one. */
export const attentionOp = defineOp<readonly [q: Tensor, k: Tensor, v: Tensor, ...visible: Tensor[]], AttentionParams>({
  name: "attention",
  kernels: [attentionKernels],

  check([q, k, v, visible], { rules }) {
    checkHeads("attention", q, k, v);
    if ([q, k, v].some(({ shape }) => (shape[3] as number) % 4 !== 0))
      throw new ShapeError("attention: a width is no multiple of 4");
    if (visible) checkVisible("attention", visible, q.shape[0] as number, q.shape[1] as number);
    checkRules("attention", rules);
  },

  reference: ([q, k, v, visible], params) => referenceAttention(q, k, v, visible, params),

  forward([q, k, v, visible], params, needs) {
    const { B, Lq, H } = q.dims("B Lq H _");
    if (q.size === 0 || v.size === 0) {
      return [zeros(q.device, [B, Lq, H, v.shape[3] as number], q.dtype), zeros(q.device, [B, Lq, H])];
    }
    const { y, total } = attend({ q, k, v, visible, params });
    return needs.includes(true) ? [cast(y, q.dtype), total] : cast(y, q.dtype);
  },

  vjp([q, k, v, visible], params, y, dy, needs, [total]) {
    if (q.size === 0 || v.size === 0) return [...zerosLike(dy, [q, k, v]), null];
    return [...attendBack({ q, k, v, visible, params }, y, total as Tensor, dy, needs), null];
  },
});

/** @throws {ShapeError} unless the three are floats that fit together */
function checkHeads(who: string, q: Tensor, k: Tensor, v: Tensor): void {
  const [B, , H = 0, K] = q.shape;
  const G = k.shape[2] ?? 0;
  const fits =
    [q, k, v].every(({ rank, dtype }) => rank === 4 && isFloat(dtype)) &&
    k.shape[0] === B &&
    k.shape[3] === K &&
    v.shape.slice(0, 3).every((n, i) => n === k.shape[i]) &&
    (G === 0 ? H === 0 : H % G === 0);
  if (fits) return;
  const given = Object.entries({ q, k, v }).map(([name, { shape, dtype }]) => `${name} ${dtype} ${print(shape)}`);
  throw new ShapeError(
    `${who}: ${given.join(", ")} do not fit floats [B, Lq, H, K], [B, Lk, G, K], [B, Lk, G, W] with H a multiple of G`,
  );
}

/**
 * Grouped-query attention: softmax(q · kᵀ · scale + bias) · v, where query head h reads key/value head ⌊h / (H/G)⌋.
 *
 * Scores, sums and the softmax are f32 whatever the dtypes. A query that sees no key gives zeros and has zero gradients.
 * Keys that no query of their sequence sees may hold anything, NaN too, as the unused tail of a cache does. (Where one query
 * sees a NaN or an infinite value, queries beside it may come out NaN too, whether they see it or not.)
 *
 * Besides its results it holds 8 MiB of scores at one time, and 16 MiB on the way back, more only where some rows of every
 * sequence and key/value head take more; on CPU adapters keys and values once more, in f32; on GPUs no scores forward.
 *
 * @param q  [B, Lq, H, K]
 * @param k  [B, Lk, G, K], perhaps of 16 bits; G divides H
 * @param v  [B, Lk, G, W], perhaps of 16 bits; W may differ from K
 * @returns  [B, Lq, H, W], in the dtype of `q`
 * @throws {ShapeError} when shapes or dtypes do not fit
 * @throws {UsageError} when a rule has no spans, or its bias is NaN or +∞
 * @see Ainslie et al. 2023, https://arxiv.org/abs/2305.13245; Dao et al. 2022, https://arxiv.org/abs/2205.14135
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { scale, causal = false, visible = null, rules = [] }: AttentionOptions = {},
): Tensor {
  const [K = 1, W = 1] = [q.shape[3], v.shape[3]];
  const params = { scale: scale ?? K ** -0.5, causal, rules };
  checkHeads("attention", q, k, v);
  return scope(() => {
    // Kernels read four elements at a time.
    const wide = (x: Tensor): Tensor => {
      const missing = -(x.shape[3] as number) & 3;
      return missing === 0
        ? x
        : pad(x, [
            [0, 0],
            [0, 0],
            [0, 0],
            [0, missing],
          ]);
    };
    const three = [wide(q), wide(k), wide(v)] as const;
    const y = visible ? attentionOp(...three, visible, params) : attentionOp(...three, params);
    return W % 4 === 0 ? y : slice(y, null, null, null, [0, W]);
  });
}
