/**
 * Answers that are shown while they are made: the latents of a batch, then its text token by token.
 *
 * Axes: T latents · D model width
 */
import { decodeText, type GeneratedText, type GenerateTextOptions, TokenizerError } from "@rot/models";
import { keep, type Tensor } from "@rot/tensor";
import type { Subject } from "../../evaluate/options.ts";
import { type LatentSource, prefill } from "../../latent/rollout.ts";
import { ANSWER_ROOM, closeThought, latentsOf, think } from "./generate.ts";
import { questionTokens, textSampleTokens } from "./prompt.ts";

/**
 * The prompt of a question, up to where latents or the text of the answer begin.
 *
 * @throws {TokenizerError} when the question has a character that the model has no row for
 */
export function promptOf(subject: Subject, question: string): Int32Array {
  const { latents, chain, model, tokenizer } = subject;
  const prompt = latents
    ? questionTokens(subject, question, latents.markers)
    : textSampleTokens(subject, { question, cot: "", answer: "" }, chain).question;
  const unknown = prompt.find((id) => id >= model.vocabulary);
  if (unknown !== undefined) {
    throw new TokenizerError(
      `the model does not know ${JSON.stringify(tokenizer.decode([unknown]))} in ${JSON.stringify(question.slice(0, 60))}: it was made for other questions`,
    );
  }
  return prompt;
}

/** What stands between a question and its answer. */
export interface Thoughts {
  /** Latents of each question; none of a model that answers in text. */
  readonly counts: readonly number[];
  /** To read the questions and roll the latents out, for the whole batch. */
  readonly seconds: number;
  /** [T, D] for each question, where they were asked for. Freed when the generator goes on. */
  readonly latents: readonly Tensor[];
  /** [T, D] for each question: the hidden states that the latents were made of. */
  readonly states: readonly Tensor[];
}

/** How {@link streamAnswers} answers; the policy of latents is the subject's. */
export interface StreamOptions extends GenerateTextOptions {
  /** Whether the latents themselves are wanted. */
  readonly look?: boolean;
}

/** The latents of all questions, then every token as soon as it is known. */
export type Streamed = { readonly thoughts: Thoughts } | { readonly token: GeneratedText };

/**
 * Thinks and answers, for a batch of prompts. Leaving the loop early is allowed; memory is given back then too.
 *
 * @param prompts  of {@link promptOf}
 * @throws {UsageError | ContextError | NumericError | DeviceError}
 */
export async function* streamAnswers(
  subject: Subject,
  prompts: readonly Int32Array[],
  { look = false, ...options }: StreamOptions,
): AsyncGenerator<Streamed, void, undefined> {
  const { model, tokenizer, latents, stop: stopTokens } = subject;
  const begin = performance.now();
  const since = (): number => (performance.now() - begin) / 1000;
  const owned: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(resource: T): T => {
    owned.push(resource);
    return resource;
  };
  try {
    let prefilled;
    if (latents) {
      const states: Tensor[] = [];
      const source: LatentSource = (hidden) => {
        if (look) states.push(own(keep(hidden.alias())));
        return latents.source(hidden);
      };
      const thought = own(await think(model, source, prompts, latents.policy, latents.markers));
      prefilled = closeThought(model, thought, latents.markers);
      own(prefilled.last);
      await model.device.sync();
      const { counts } = thought;
      // [T, D] of each question from steps [B, D].
      const rows = (steps: readonly Tensor[]): Tensor[] => (look ? latentsOf({ counts, latents: steps }, model) : []);
      const [made, from] = [rows(thought.latents), rows(states)];
      try {
        yield { thoughts: { counts, seconds: since(), latents: made, states: from } };
      } finally {
        for (const tensor of [...made, ...from]) tensor.dispose();
      }
    } else {
      prefilled = prefill(model, prompts, ANSWER_ROOM);
      own(prefilled.last);
      own(prefilled.cache);
      await model.device.sync();
      yield { thoughts: { counts: prompts.map(() => 0), seconds: since(), latents: [], states: [] } };
    }
    for await (const token of decodeText(model, { tokenizer, stopTokens }, prefilled, options)) yield { token };
  } finally {
    for (const resource of owned.toReversed()) resource.dispose();
  }
}
