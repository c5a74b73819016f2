/**
 * Answers after latents: a roll-out that ends by a fixed budget or by itself, then `<img_end>`, then text, all from one cache.
 *
 * The published code throws the cache of the roll-out away and reads everything again for every token; the numbers are the
 * same.
 *
 * Axes: B sequences · T latents · D model width
 *
 * @see Wang et al. 2026, "Render-of-Thought", https://arxiv.org/abs/2601.14750, eq. 4; generate of models/cot_compressor.py
 */
import {
  checkContext,
  collect,
  decode,
  type FinishReason,
  type GenerateOptions,
  type KvCache,
  type Prefilled,
  type Tokenizer,
  type VisionLanguageModel,
} from "@rot/models";
import {
  argmax,
  concat,
  gatherRows,
  keep,
  scope,
  stack,
  tensor,
  type Tensor,
  untaped,
  UsageError,
  zeros,
} from "@rot/tensor";
import type { LatentPolicy } from "../../bundle/config.ts";
import { advance, type LatentSource, prefill } from "../../latent/rollout.ts";
import type { Markers } from "./prompt.ts";

/** Prompts with their latents in a cache. Dispose it. */
export interface Thought {
  readonly cache: KvCache;
  /** Latents of each prompt. */
  readonly counts: readonly number[];
  /** [B, D] for each step; what stands behind the count of a sequence means nothing. */
  readonly latents: readonly Tensor[];
  dispose(): void;
}

/** Room in the cache for the tokens of an answer, set aside at once; beyond it the cache grows. */
export const ANSWER_ROOM = 256;

/**
 * Rolls latents out for prompts of unequal length. Each sequence ends by the policy: with a budget after so many, otherwise
 * as soon as `<img_end>` is the likeliest token, or a latent is as near to its embedding as the threshold, or at the most.
 *
 * @param source   makes a latent of a hidden state
 * @param prompts  token ids, the last of which is the marker that latents begin
 * @throws {UsageError} when the policy is no number of latents
 * @throws {ContextError} when a prompt and its latents leave no room for an answer
 */
export async function think(
  model: VisionLanguageModel,
  source: LatentSource,
  prompts: readonly Int32Array[],
  policy: LatentPolicy,
  markers: Markers,
): Promise<Thought> {
  const most = latentsAtMost(policy);
  for (const [b, { length }] of prompts.entries())
    checkContext(model, length + most + 1, `prompt ${b} with its latents`);
  const { cache, last } = prefill(model, prompts, most + ANSWER_ROOM);
  const counts = prompts.map(() => 0);
  const latents: Tensor[] = [];
  const active = prompts.map(() => true);
  let state = last;
  const dispose = (): void => {
    cache.dispose();
    for (const latent of latents) latent.dispose();
  };
  try {
    for (let t = 0; t < most; t++) {
      const latent = untaped(() => scope(() => source(state)));
      latents.push(latent);
      if ("max" in policy) {
        const ended = await endings(model, state, latent, policy, markers);
        for (const [b, has] of ended.entries()) if (has) active[b] = false;
        if (!active.some(Boolean)) break;
      }
      for (const [b, goesOn] of active.entries()) if (goesOn) counts[b] = t + 1;
      const next = untaped(() => advance(model, cache, latent, active));
      state.dispose();
      state = next;
    }
    return { cache, counts, latents, dispose };
  } catch (error) {
    dispose();
    throw error;
  } finally {
    state.dispose();
  }
}

/** @throws {UsageError} when it is no number of latents */
export function latentsAtMost(policy: LatentPolicy): number {
  const most = "budget" in policy ? policy.budget : policy.max;
  if (!(Number.isSafeInteger(most) && most >= 0)) throw new UsageError(`generate: ${most} is no number of latents`);
  return most;
}

/** Which sequences end before this latent: `<img_end>` wins the argmax at its state, or is what the latent nearly is. */
async function endings(
  model: VisionLanguageModel,
  state: Tensor,
  latent: Tensor,
  { threshold }: { readonly threshold?: number | undefined },
  { end }: Markers,
): Promise<boolean[]> {
  const record = untaped(() =>
    scope(() => {
      const columns = [argmax(model.logits(state), -1).to("f32").reshape(-1, 1)];
      if (threshold !== undefined) {
        const embedding = model.embed(Int32Array.of(end)).reshape(1, model.width);
        columns.push(latent.sub(embedding).square().mean(-1).sqrt().reshape(-1, 1));
      }
      return concat(columns, -1);
    }),
  );
  const values = await record.read();
  record.dispose();
  const width = threshold === undefined ? 1 : 2;
  return Array.from({ length: values.length / width }, (_, b) => {
    const isNear = threshold !== undefined && (values[b * width + 1] as number) <= threshold;
    return values[b * width] === end || isNear;
  });
}

/** The latents of each sequence, [T, D]; T may be 0. They are the caller's to dispose. */
export function latentsOf(
  { latents, counts }: Pick<Thought, "latents" | "counts">,
  { device, width }: VisionLanguageModel,
): Tensor[] {
  return keep(
    untaped(() =>
      scope(() => {
        const all = latents.length > 0 ? stack(latents).reshape(-1, width) : zeros(device, [0, width]);
        const B = counts.length;
        return counts.map((count, b) =>
          gatherRows(
            all,
            Int32Array.from({ length: count }, (_, t) => t * B + b),
          ),
        );
      }),
    ),
  );
}

/** Feeds the marker that latents end to each sequence. The cache stays the thought's; `last` is the caller's. */
export function closeThought(
  model: VisionLanguageModel,
  { cache }: Pick<Thought, "cache">,
  { end }: Markers,
): Prefilled {
  const ids = new Int32Array(cache.sequences).fill(end);
  const all = Array<boolean>(cache.sequences).fill(true);
  const last = untaped(() => scope(() => advance(model, cache, model.embed(ids).reshape(-1, model.width), all)));
  return { cache, last };
}

/**
 * Reads prompts with given latents and the marker that they end, in one parallel pass.
 *
 * @param latents  [T, D] for each prompt
 * @returns        a cache and the hidden states that the answers begin at; both are the caller's to dispose
 */
export function readThought(
  model: VisionLanguageModel,
  prompts: readonly Int32Array[],
  latents: readonly Tensor[],
  { end }: Markers,
): Prefilled {
  const ends = prompts.map(({ length }, b) => length + (latents[b]?.shape[0] ?? 0) + 1);
  for (const [b, length] of ends.entries()) checkContext(model, length, `prompt ${b} with its latents`);
  const L = Math.max(...ends);
  const ids = new Int32Array(prompts.length * L);
  const rows: number[] = [];
  for (const [b, prompt] of prompts.entries()) {
    ids.set(prompt, b * L);
    for (let l = prompt.length; l < (ends[b] as number) - 1; l++) rows.push(b * L + l);
    ids[b * L + (ends[b] as number) - 1] = end;
  }
  const cache = model.newCache(prompts.length, { capacity: L + ANSWER_ROOM, block: 64 });
  try {
    const last = untaped(() =>
      scope(() => {
        const embeddings = model.embed(tensor(model.device, ids, { shape: [prompts.length, L], dtype: "i32" }));
        const given = latents.filter(({ size }) => size > 0);
        return model.forward(embeddings, {
          cache,
          valid: ends.map((length) => [0, length] as const),
          rows: Int32Array.from(ends, (length, b) => b * L + length - 1),
          ...(given.length > 0 && {
            images: { tokens: concat(given), deepstack: [], rows: Int32Array.from(rows) },
          }),
        });
      }),
    );
    return { cache, last };
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** How answers are written once the latents are there. */
export interface AnswerOptions extends Pick<GenerateOptions, "temperature" | "topP" | "topK" | "seed" | "samples"> {
  readonly maxNewTokens: number;
  /** The tokens that end an answer; they are left out of it. */
  readonly stop: readonly number[];
}

/** An answer as tokens. */
export interface AnswerTokens {
  readonly ids: readonly number[];
  readonly finish: FinishReason;
}

/**
 * Writes answers from a cache, which holds afterwards what it held before: further answers can be drawn from it.
 *
 * @throws {NumericError} when scores are no numbers
 */
export async function writeAnswers(
  model: VisionLanguageModel,
  prefilled: Prefilled,
  options: AnswerOptions,
): Promise<AnswerTokens[]> {
  const { cache } = prefilled;
  const begun = [...cache.lengths];
  const answers = await collect(decode(model, prefilled, options), cache.sequences);
  cache.truncate(begun);
  return answers.map(({ ids, finish }) => ({ ids: finish === "stop" ? ids.slice(0, -1) : ids, finish }));
}

/** How {@link generateAnswers} thinks and writes. */
export interface GenerateAnswersOptions extends AnswerOptions {
  readonly policy: LatentPolicy;
  readonly markers: Markers;
  /** Makes the text of the answers. */
  readonly tokenizer: Pick<Tokenizer, "decode">;
  /** What stands in place of the latents that were rolled out: [T, D] for each prompt, any T. They become ours to dispose. */
  readonly replace?: (own: readonly Tensor[]) => readonly Tensor[];
}

/** An answer and what it took. */
export interface GeneratedAnswer extends AnswerTokens {
  readonly text: string;
  /** Latents that the answer follows. */
  readonly latents: number;
  /** Of the whole batch, divided by its size. */
  readonly seconds: number;
}

/**
 * Thinks and answers, for a batch of prompts.
 *
 * @param prompts  token ids, the last of which is the marker that latents begin
 * @throws {UsageError | ContextError | NumericError | DeviceError}
 */
export async function generateAnswers(
  model: VisionLanguageModel,
  source: LatentSource,
  prompts: readonly Int32Array[],
  { policy, markers, tokenizer, replace, ...options }: GenerateAnswersOptions,
): Promise<GeneratedAnswer[]> {
  const from = performance.now();
  const thought = await think(model, source, prompts, policy, markers);
  let { counts } = thought;
  let prefilled: Prefilled | undefined;
  try {
    if (replace) {
      const own = latentsOf(thought, model);
      let given: readonly Tensor[] = [];
      try {
        given = replace(own);
        counts = given.map(({ shape }) => shape[0] as number);
        prefilled = readThought(model, prompts, given, markers);
      } finally {
        for (const latent of [...own, ...given]) latent.dispose();
      }
    } else prefilled = closeThought(model, thought, markers);
    const answers = await writeAnswers(model, prefilled, options);
    const seconds = (performance.now() - from) / 1000 / prompts.length;
    return answers.map((answer, b) => ({
      ...answer,
      text: tokenizer.decode(answer.ids, { skipSpecialTokens: true }),
      latents: counts[b] as number,
      seconds,
    }));
  } finally {
    prefilled?.last.dispose();
    if (replace) prefilled?.cache.dispose();
    thought.dispose();
  }
}

/** Whether a prompt of so many tokens, its latents and `<img_end>` leave room for an answer. */
export function fits(model: VisionLanguageModel, length: number, latents: number): boolean {
  return length + latents + 1 < model.maxPositions;
}
