/** Attention in primitives: its meaning. It holds all scores of all pairs. */
import {
  arange,
  binary,
  cast,
  compare,
  logicalAnd,
  logicalNot,
  matmul,
  permute,
  reshape,
  slice,
  softmax,
  sum,
  type Tensor,
  where,
} from "@rot/tensor";
import type { AttentionParams } from "./options.ts";

/** Scores and who sees whom. */
interface Scores {
  /** [B, G, H/G, Lq, Lk], −∞ where a query does not see a key */
  readonly scores: Tensor;
  /** bool [B or 1, 1, 1, Lq, Lk] */
  readonly seen: Tensor;
}

/** q·kᵀ · scale, with what no query sees taken out of it. */
function scoresOf(q: Tensor, k: Tensor, visible: Tensor | undefined, params: AttentionParams): Scores {
  const { device } = q;
  const { B, Lq, H, K } = q.dims("B Lq H K");
  const { Lk, G } = k.dims("_ Lk G _");
  const queries = reshape(arange(device, 0, Lq, 1, "i32"), [1, 1, 1, Lq, 1]);
  const keys = reshape(arange(device, 0, Lk, 1, "i32"), [1, 1, 1, 1, Lk]);
  const within = (x: Tensor, [begin, end]: readonly [number, number]): Tensor =>
    logicalAnd(compare.ge(x, begin), compare.lt(x, end));

  let seen: Tensor = logicalAnd(compare.ge(queries, 0), compare.ge(keys, 0));
  if (params.causal) seen = compare.le(keys, binary.add(queries, Lk - Lq));
  if (visible) {
    const [begin, end] = [0, 1].map((side) =>
      reshape(slice(visible, null, null, [side, side + 1]), [visible.shape[0] as number, 1, 1, Lq, 1]),
    ) as [Tensor, Tensor];
    seen = logicalAnd(seen, logicalAnd(compare.ge(keys, begin), compare.lt(keys, end)));
  }
  const sequences = reshape(arange(device, 0, B, 1, "i32"), [B, 1, 1, 1, 1]);
  const spans = params.rules.map(({ queries: of, keys: on, bias, sequence }) => {
    const span = logicalAnd(within(queries, of), within(keys, on));
    return { bias, span: sequence === undefined ? span : logicalAnd(span, compare.eq(sequences, sequence)) };
  });
  for (const { bias, span } of spans) if (bias === -Infinity) seen = logicalAnd(seen, logicalNot(span));

  // 0 · NaN is NaN: what no query sees must not stand in a product at all.
  const used = reshape(sum(cast(seen, "f32"), 3), [seen.shape[0] as number, 1, 1, Lk, 1]);
  const byHead = (x: Tensor): Tensor => permute(reshape(x, [B, Lk, G, 1, x.shape[3] as number]), [0, 2, 3, 1, 4]);
  const rows = permute(reshape(cast(q, "f32"), [B, Lq, G, H / G, K]), [0, 2, 3, 1, 4]);
  let scores = binary.mul(matmul(rows, where(used, cast(byHead(k), "f32"), 0), { transposeB: true }), params.scale);
  for (const { bias, span } of spans) {
    if (bias !== -Infinity) scores = binary.add(scores, where(span, bias, 0));
  }
  return { scores: where(seen, scores, -Infinity), seen };
}

/** softmax(q·kᵀ · scale), [B, G, H/G, Lq, Lk], and 0 where a query sees nothing. */
export function probabilitiesOf(
  q: Tensor,
  k: Tensor,
  visible: Tensor | undefined,
  params: AttentionParams,
): { readonly probabilities: Tensor; readonly seen: Tensor } {
  const { scores, seen } = scoresOf(q, k, visible, params);
  return { probabilities: where(seen, softmax(scores, -1), 0), seen };
}

/** {@link attention} in primitives. */
export function referenceAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  visible: Tensor | undefined,
  params: AttentionParams,
): Tensor {
  const { B, Lq, H } = q.dims("B Lq H _");
  const { Lk, G, W } = v.dims("_ Lk G W");
  const { probabilities, seen } = probabilitiesOf(q, k, visible, params);
  const used = reshape(sum(cast(seen, "f32"), 3), [seen.shape[0] as number, 1, 1, Lk, 1]);
  const values = permute(reshape(cast(v, "f32"), [B, Lk, G, 1, W]), [0, 2, 3, 1, 4]);
  const y = matmul(probabilities, where(used, values, 0));
  return cast(reshape(permute(y, [0, 3, 1, 2, 4]), [B, Lq, H, W]), q.dtype);
}
