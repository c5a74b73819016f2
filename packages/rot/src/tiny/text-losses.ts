/** Next-token losses of sequences in which some tokens are latents. */
import { linearCrossEntropy } from "@rot/kernels";
import type { VisionLanguageModel } from "@rot/models";
import { matmul, mean, scope, tensor, type Tensor } from "@rot/tensor";
import { marks } from "./vocabulary.ts";

/** A sequence to learn. */
export interface Sequence {
  /** {@link marks.image} stands where a latent is. */
  readonly tokens: readonly number[];
  /** The first token that is learnt; all after it are. */
  readonly from: number;
  /** What is learnt in place of the tokens, by default they themselves. */
  readonly labels?: readonly number[];
}

/**
 * The mean loss of the learnt tokens of each group of sequences, from one pass over all of them.
 *
 * @param latents  [N, D], what stands at the latents, in their order; null where there are none
 * @returns        [groups]
 */
export function textLosses(
  model: VisionLanguageModel,
  groups: readonly (readonly Sequence[])[],
  latents: Tensor | null,
): Tensor {
  const { device } = model;
  const all = groups.flat();
  const length = Math.max(...all.map(({ tokens }) => tokens.length)) - 1;
  const ids = new Int32Array(all.length * length).fill(marks.pad);
  const [latentRows, rows, labels]: [number[], number[], number[]] = [[], [], []];
  for (const [b, { tokens, from, labels: learnt = tokens }] of all.entries()) {
    // The last token is only predicted.
    ids.set(tokens.slice(0, -1), b * length);
    for (const [l, token] of tokens.entries()) {
      if (token === marks.image) latentRows.push(b * length + l);
      if (l >= from) {
        rows.push(b * length + l - 1);
        labels.push(learnt[l] as number);
      }
    }
  }
  return scope(() => {
    const embeddings = model.embed(tensor(device, ids, { shape: [all.length, length], dtype: "i32" }));
    const hidden = model.forward(embeddings, {
      rows: Int32Array.from(rows),
      ...(latents && { images: { tokens: latents, deepstack: [], rows: Int32Array.from(latentRows) } }),
    });
    // The device begins here, while the rest is recorded.
    device.flush();
    const target = tensor(device, Int32Array.from(labels), { dtype: "i32" });
    const losses = linearCrossEntropy(hidden, model.head, target, { reduction: "none" });
    if (groups.length === 1) return mean(losses).reshape(1);
    const shares = new Float32Array(groups.length * labels.length);
    let at = 0;
    for (const [group, sequences] of groups.entries()) {
      const count = sequences.reduce((sum, { tokens, from }) => sum + tokens.length - from, 0);
      shares.fill(1 / count, group * labels.length + at, group * labels.length + at + count);
      at += count;
    }
    const share = tensor(device, shares, { shape: [groups.length, labels.length] });
    return matmul(share, losses.reshape(-1, 1)).reshape(groups.length);
  });
}
