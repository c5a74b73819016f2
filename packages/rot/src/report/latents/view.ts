/**
 * What can truthfully be said of latents, which are vectors and no pictures: how long they are, how alike, which token's
 * embedding points most nearly their way, and what the model would have written in place of each.
 *
 * Axes: T latents · D model width · V vocabulary
 */
import { linear, topLogProbs } from "@rot/kernels";
import type { VisionLanguageModel } from "@rot/models";
import { argmax, concat, gatherLast, scope, type Tensor, untaped } from "@rot/tensor";

/** One latent. */
export interface LatentView {
  /** Its length, √Σx². */
  readonly norm: number;
  /** The cosine of the angle to the latent before it; null of the first. */
  readonly likeLast: number | null;
  /** The token whose embedding has the least angle to it. */
  readonly nearest: { readonly token: number; readonly cosine: number };
  /** The token that is the likeliest where the latent stands, had the model written there. */
  readonly instead: { readonly token: number; readonly probability: number };
  /** [D] */
  readonly values: Float32Array;
}

/**
 * Looks at the latents of a question.
 *
 * @param latents  [T, D]
 * @param states   [T, D], the hidden states that they were made of
 * @param block    rows of the embedding that are looked at in one go: a whole table in f32 would be gigabytes
 */
export async function viewLatents(
  model: VisionLanguageModel,
  latents: Tensor,
  states: Tensor,
  block = 8192,
): Promise<readonly LatentView[]> {
  const { T, D } = latents.dims("T D");
  if (T === 0) return [];
  const values = (await latents.read()) as Float32Array;
  const rows = Array.from({ length: T }, (_, t) => values.slice(t * D, (t + 1) * D));
  const norms = rows.map((row) => Math.sqrt(dot(row, row)));
  const [instead, nearest] = [await likeliest(model, states), await nearestTokens(model, latents, block)];
  return rows.map((row, t) => {
    const before = rows[t - 1];
    return {
      norm: norms[t] as number,
      likeLast: before ? dot(row, before) / Math.max(1e-30, (norms[t] as number) * (norms[t - 1] as number)) : null,
      nearest: nearest[t] as LatentView["nearest"],
      instead: instead[t] as LatentView["instead"],
      values: row,
    };
  });
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

async function likeliest(model: VisionLanguageModel, states: Tensor): Promise<LatentView["instead"][]> {
  const { values, indices } = untaped(() => topLogProbs(model.logits(states), 1));
  try {
    const [logs, tokens] = await Promise.all([values.read(), indices.read()]);
    return Array.from(tokens as Int32Array, (token, t) => ({ token, probability: Math.exp(Number(logs[t])) }));
  } finally {
    values.dispose();
    indices.dispose();
  }
}

/** For each latent the best of all tokens, block after block. */
async function nearestTokens(
  model: VisionLanguageModel,
  latents: Tensor,
  block: number,
): Promise<LatentView["nearest"][]> {
  const T = latents.shape[0] as number;
  const best = Array.from({ length: T }, () => ({ token: 0, cosine: -Infinity }));
  for (let begin = 0; begin < model.vocabulary; begin += block) {
    const ids = Int32Array.from({ length: Math.min(block, model.vocabulary - begin) }, (_, i) => begin + i);
    const found = untaped(() =>
      scope(() => {
        const cosines = linear(normalized(latents), normalized(model.embed(ids)));
        const at = argmax(cosines, -1);
        return concat([gatherLast(cosines, at).reshape(T, 1), at.to("f32").reshape(T, 1)], -1);
      }),
    );
    const values = await found.read();
    found.dispose();
    for (const [t, one] of best.entries()) {
      const cosine = Number(values[2 * t]);
      if (cosine > one.cosine) best[t] = { token: begin + Number(values[2 * t + 1]), cosine };
    }
  }
  return best;
}

/** Rows of length 1; zeros stay. */
const normalized = (x: Tensor): Tensor => x.div(x.square().sum(-1, { keepDim: true }).sqrt().maximum(1e-20));
