// Axes: as in attention.ts · R chosen queries · S keys of the span
import {
  compare,
  concat,
  mean,
  print,
  scope,
  ShapeError,
  slice,
  tensor,
  type Tensor,
  UsageError,
  where,
} from "@rot/tensor";
import { type AttentionOptions, checkRules, checkVisible } from "./options.ts";
import { probabilitiesOf } from "./reference.ts";

/** What {@link attentionRows} takes besides the tensors: what `attention` takes, and which queries and keys. */
export interface AttentionRowsOptions extends AttentionOptions {
  /** The queries to read out, alike for the whole batch. */
  readonly rows: readonly number[];
  /** [begin, end) of the keys to read out, all by default. The weights of a query sum to 1 over every key that it sees. */
  readonly keys?: readonly [begin: number, end: number];
}

/**
 * How much some queries attend to some keys: softmax(q · kᵀ · scale + bias) of the chosen queries, averaged over the heads.
 * It costs those queries alone, and gradients flow to `q` and `k`.
 *
 * @param q  [B, Lq, H, K]
 * @param k  [B, Lk, G, K]; G divides H
 * @returns  [B, R, S] in f32; zeros where a query sees no key
 * @throws {ShapeError} when shapes or dtypes do not fit
 * @throws {UsageError} when there is no such query or key, or a rule has no spans
 */
export function attentionRows(q: Tensor, k: Tensor, options: AttentionRowsOptions): Tensor {
  const { rows, causal = false, visible = null, scale, rules = [] } = options;
  const { B, Lq, H, K } = q.dims("B Lq H K");
  const { Lk, G } = k.dims("_ Lk G _");
  const [begin, end] = options.keys ?? [0, Lk];
  if (k.shape[0] !== B || k.shape[3] !== K || (G === 0 ? H > 0 : H % G !== 0)) {
    throw new ShapeError(
      `attentionRows: q ${print(q.shape)} and k ${print(k.shape)} do not fit [B, Lq, H, K], [B, Lk, G, K]`,
    );
  }
  if (visible) checkVisible("attentionRows", visible, B, Lq);
  checkRules("attentionRows", rules);
  const wrong = rows.find((row) => !Number.isInteger(row) || row < 0 || row >= Lq);
  if (rows.length === 0 || wrong !== undefined) {
    throw new UsageError(`attentionRows: rows are ${print(rows)}, some of the ${Lq} queries from 0 on`);
  }
  if (!(Number.isInteger(begin) && Number.isInteger(end) && 0 <= begin && begin <= end && end <= Lk)) {
    throw new UsageError(`attentionRows: keys are [${begin}, ${end}), a span of ${Lk} keys`);
  }

  return scope(() => {
    const pick = (x: Tensor): Tensor =>
      concat(
        rows.map((row) => slice(x, null, [row, row + 1])),
        1,
      );
    const limits = rows.flatMap((row) => [0, causal ? Math.max(0, row + Lk - Lq + 1) : Lk]);
    const last = tensor(q.device, Int32Array.from(limits), { shape: [1, rows.length, 2], dtype: "i32" });
    const first = tensor(q.device, Int32Array.from(limits.map((_, i) => (i % 2 === 0 ? 1 : 0))), {
      shape: [1, rows.length, 2],
      dtype: "bool",
    });
    const picked = visible && pick(visible);
    // The beginning is that of `visible`, the end the smaller one.
    const ranges = picked ? where(first, picked, where(compare.lt(picked, last), picked, last)) : last;
    const own = rules.flatMap((rule) =>
      rows.flatMap((row, i) =>
        row >= rule.queries[0] && row < rule.queries[1] ? [{ ...rule, queries: [i, i + 1] as const }] : [],
      ),
    );
    const params = { scale: scale ?? K ** -0.5, causal: false, rules: own };
    const { probabilities } = probabilitiesOf(pick(q), k, ranges, params);
    return mean(slice(probabilities, null, null, null, null, [begin, end]), [1, 2]);
  });
}
