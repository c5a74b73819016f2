/**
 * Rows of the token tables that learn while the tables stay as they are: markers, of which there are two among 150,000.
 *
 * A row enters twice. As an embedding it is put in place of what the table gives. In the output matrix it takes part in
 * every softmax: there the losses are computed from the table as ever, and only the gradient of the row is added.
 *
 * Axes: N rows that predict · R token rows · D model width · V vocabulary
 */
import {
  binary,
  type DType,
  gatherRows,
  matmul,
  scope,
  stack,
  sum,
  tensor,
  type Tensor,
  unary,
  untaped,
} from "@rot/tensor";
import type { BatchLayout } from "./batch.ts";

const { mul, sub } = binary;

/** Token rows that learn. What they hold must stand in the tables too: it is read from there wherever nothing is taped. */
export interface TokenRows {
  /** The tokens. */
  readonly ids: readonly number[];
  /** [D] each, leaves in f32, in the order of the tokens. */
  readonly embedding: readonly Tensor[];
  /** The same of the output matrix; the same tensors where it is tied to the embedding. */
  readonly head: readonly Tensor[];
  /** Of the embedding table. */
  readonly dtype: DType;
}

/** Where in a batch the tokens stand, and the embeddings [n, D] that do instead. */
export interface PlacedRows {
  readonly rows: Int32Array;
  readonly values: Tensor;
}

/**
 * The trained embeddings at their places in a batch, as the embedding would give them: rounded to its dtype.
 *
 * @returns  one part, or none where no token of the batch is one of them
 */
export function placeRows(
  { ids, embedding, dtype }: TokenRows,
  { ids: tokens, length, valid, latentRows }: BatchLayout,
): PlacedRows[] {
  const latents = new Set(latentRows);
  const rows: number[] = [];
  const which: number[] = [];
  for (const [b, [begin, end]] of valid.entries()) {
    for (let row = b * length + begin; row < b * length + end; row++) {
      const i = latents.has(row) ? -1 : ids.indexOf(tokens[row] as number);
      if (i < 0) continue;
      rows.push(row);
      which.push(i);
    }
  }
  if (rows.length === 0) return [];
  const values = scope(() => gatherRows(rounded(embedding, dtype), Int32Array.from(which)));
  return [{ rows: Int32Array.from(rows), values }];
}

/** [R, D], rounded to the dtype of a table. Gradients pass over that in f32. */
function rounded(rows: readonly Tensor[], dtype: DType): Tensor {
  return scope(() => {
    const exact = stack(rows);
    return dtype === "f32" ? exact : exact.add(untaped(() => exact.to(dtype).to("f32").sub(exact)));
  });
}

/**
 * Gives losses of a frozen output matrix the gradients of the rows of it that learn: d loss / d row = (p − [label = row]) · h,
 * p the probability of the row's token. The losses stay what they are.
 *
 * @param losses  [N], cross-entropies of the labels
 * @param hidden  [N, D], what they were predicted from
 * @param head    [V, D]
 * @returns       [N]
 */
export function withRowGradients(
  losses: Tensor,
  hidden: Tensor,
  head: Tensor,
  labels: Int32Array,
  { ids, head: rows }: TokenRows,
): Tensor {
  return scope(() => {
    const states = hidden.detach();
    const scores = matmul(states, rounded(rows, head.dtype), { transposeB: true });
    const slopes = untaped(() => {
      const ofLabel = sum(mul(states, gatherRows(head, labels).to("f32")), -1, { keepDim: true });
      const logSum = losses.detach().reshape(-1, 1).add(ofLabel);
      return sub(unary.exp(sub(scores.detach(), logSum)), isLabel(labels, ids, states));
    });
    return losses.add(sum(mul(slopes, sub(scores, scores.detach())), -1));
  });
}

/** [N, R]: 1 where the label is the token. */
function isLabel(labels: Int32Array, ids: readonly number[], { device }: Tensor): Tensor {
  const values = Float32Array.from([...labels].flatMap((label) => ids.map((id) => (label === id ? 1 : 0))));
  return tensor(device, values, { shape: [labels.length, ids.length] });
}
