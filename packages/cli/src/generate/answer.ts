/** Answers of a batch while they are made: their text, their tokens, and how long they took. */
import type { Chat, FinishReason, GeneratedText, ScoredToken } from "@rot/models";
import type { Request } from "./requests.ts";

/** A token with its text, as `--logprobs` shows it. */
interface ShownToken extends ScoredToken {
  readonly text: string;
}

/** What `--json` prints of a request. Times are in seconds and count from the beginning of its batch. */
export interface Answer {
  readonly prompt: string;
  readonly images: readonly string[];
  readonly text: string;
  readonly ids: readonly number[];
  readonly finish: FinishReason;
  readonly promptTokens: number;
  /** Of a model that thinks in latents: how many of them, and in what time, for the whole batch. */
  readonly latents?: number;
  readonly secondsThinking?: number;
  /** What can be said of each latent. */
  readonly thought?: readonly object[];
  readonly secondsToFirstToken: number;
  /** After the first token; null when there is no other. */
  readonly tokensPerSecond: number | null;
  /** Every step: the token chosen, and the likeliest. */
  readonly logProbs?: readonly (ShownToken & { readonly top: readonly ShownToken[] })[];
}

/** Gathers the tokens of one request. */
export class AnswerBuilder {
  readonly #request: Request;
  readonly #promptTokens: number;
  readonly #begun: number;
  readonly #tokens: GeneratedText[] = [];
  #thinking: Pick<Answer, "latents" | "secondsThinking" | "thought"> = {};
  #first = 0;
  #last = 0;

  /** @param begun  when the batch began, in milliseconds */
  constructor(request: Request, promptTokens: number, begun: number) {
    this.#request = request;
    this.#promptTokens = promptTokens;
    this.#begun = begun;
  }

  /** Takes what stands between the question and its answer. */
  think(latents: number, secondsThinking: number, thought?: readonly object[]): void {
    this.#thinking = { latents, secondsThinking, ...(thought && { thought }) };
  }

  push(token: GeneratedText, now = performance.now()): void {
    if (this.#tokens.length === 0) this.#first = now;
    this.#last = now;
    this.#tokens.push(token);
  }

  answer({ tokenizer }: Pick<Chat, "tokenizer">): Answer {
    const tokens = this.#tokens;
    const shown = ({ id, logProb }: ScoredToken): ShownToken => ({ id, text: tokenizer.decode([id]), logProb });
    const scored = tokens.flatMap(({ id, logProb, top }) =>
      logProb === undefined ? [] : [{ ...shown({ id, logProb }), top: (top ?? []).map(shown) }],
    );
    const seconds = (this.#last - this.#first) / 1000;
    return {
      prompt: this.#request.prompt,
      images: this.#request.images,
      text: tokens.map(({ text }) => text).join(""),
      ids: tokens.map(({ id }) => id),
      finish: tokens.at(-1)?.finish ?? "length",
      promptTokens: this.#promptTokens,
      ...this.#thinking,
      secondsToFirstToken: (this.#first - this.#begun) / 1000,
      tokensPerSecond: seconds > 0 ? (tokens.length - 1) / seconds : null,
      ...(scored.length > 0 && { logProbs: scored }),
    };
  }
}

/** Control characters other than line breaks and tabs are shown as escapes: they could move a terminal's cursor. */
export const printable = (text: string): string =>
  text.replace(/(?![\n\t])\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`);
