/**
 * The roll-out: a decoder that goes on from latents of its own. Off the tape, for a whole batch at once, with a cache.
 *
 * What is fed back is detached in training, so that the latents and, where the decoder is frozen, the hidden states they
 * are made of are constants: nothing has to be taped through the steps.
 */
import { type KvCache, type Prefilled, prefill as readPrompts, type VisionLanguageModel } from "@rot/models";
import { type Tensor, gatherRows, scope, stack, untaped } from "@rot/tensor";

/** From hidden states [N, D] to the latents [N, D] that follow them. */
export type LatentSource = (hidden: Tensor) => Tensor;

/** What was rolled out. Both are [T, B, D]; what stands behind the count of a sequence means nothing. */
export interface RollOut {
  /** Hidden states after the final norm, of which the latents are made. */
  readonly hidden: Tensor;
  readonly latents: Tensor;
  /** Rows t · B + b of the latents that count, sequence after sequence. */
  readonly rows: Int32Array;
}

/** Tokens by which a cache grows: roll-outs are short. */
const BLOCK = 64;

/**
 * Reads prompts of unequal length.
 *
 * @param room  tokens that will follow
 * @returns     a cache and the last hidden states [B, D]; both are the caller's to dispose
 * @throws {ContextError} when a prompt leaves no room for a token after it
 */
export const prefill = (model: VisionLanguageModel, prompts: readonly Int32Array[], room: number): Prefilled =>
  readPrompts(
    model,
    prompts.map((ids) => ({ ids })),
    { room, block: BLOCK },
  );

/**
 * Feeds one embedding to each sequence that goes on.
 *
 * @param next    [B, D]
 * @param active  which sequences go on; the others rest, and their rows of the result mean nothing
 * @returns       [B, D], the hidden states of these tokens
 */
export function advance(model: VisionLanguageModel, cache: KvCache, next: Tensor, active: readonly boolean[]): Tensor {
  const { B, D } = next.dims("B D");
  const valid = active.map((goesOn) => [0, goesOn ? 1 : 0] as const);
  return scope(() => model.forward(next.reshape(B, 1, D), { cache, valid }).reshape(B, D));
}

/**
 * Rolls out a given number of latents for each prompt.
 *
 * @param prompts  token ids, the last of which is the marker that latents begin
 * @param source   makes a latent of a hidden state
 * @param counts   latents of each prompt
 */
export function rollOut(
  model: VisionLanguageModel,
  source: LatentSource,
  prompts: readonly Int32Array[],
  counts: readonly number[],
): RollOut {
  const steps = Math.max(...counts);
  return untaped(() =>
    scope(() => {
      const { cache, last } = prefill(model, prompts, steps);
      try {
        const hidden: Tensor[] = [];
        const latents: Tensor[] = [];
        for (let state = last, t = 0; t < steps; t++) {
          const latent = source(state);
          hidden.push(state);
          latents.push(latent);
          // What the last latent would lead to is not asked for here.
          if (t + 1 < steps) {
            state = advance(
              model,
              cache,
              latent,
              counts.map((count) => t + 1 < count),
            );
          }
        }
        const empty = (): Tensor => last.reshape(1, ...last.shape).rows(0, 0);
        return {
          hidden: steps > 0 ? stack(hidden) : empty(),
          latents: steps > 0 ? stack(latents) : empty(),
          rows: rolledRows(counts),
        };
      } finally {
        cache.dispose();
        last.dispose();
      }
    }),
  );
}

/** Rows t · B + b of the latents that count, sequence after sequence. */
const rolledRows = (counts: readonly number[]): Int32Array =>
  Int32Array.from(counts.flatMap((count, b) => Array.from({ length: count }, (_, t) => t * counts.length + b)));

/** The rows of a roll-out that count, [N, D], sequence after sequence. */
export const rolled = (steps: Tensor, rows: Int32Array): Tensor => gatherRows(steps.flatten(0, 1), rows);
