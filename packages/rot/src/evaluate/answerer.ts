/**
 * Batches of samples to answers: from the model's own latents, from others, or in text.
 *
 * Axes: B sequences · T latents · D model width
 */
import { NumericError, TokenizerError } from "@rot/models";
import { keep, key, pad, scope, type Tensor, tensor, untaped } from "@rot/tensor";
import type { Sample } from "../data/sample.ts";
import { prefill } from "../latent/rollout.ts";
import {
  ANSWER_ROOM,
  type AnswerTokens,
  closeThought,
  fits,
  latentsAtMost,
  latentsOf,
  readThought,
  think,
  writeAnswers,
} from "../methods/rot/generate.ts";
import { promptOf } from "../methods/rot/stream.ts";
import { ablate, type Arm } from "./ablations.ts";
import type { EvaluateOptions, Subject } from "./options.ts";

/** One answer before it is scored, and the share of time it took. */
export interface Answered extends AnswerTokens {
  readonly arm: Arm;
  readonly seed: number;
  readonly latents: number;
  readonly seconds: number;
}

/** Answers samples by their numbers; what its batches share is worked out once. */
export class Answerer {
  readonly #subject: Subject;
  readonly #options: EvaluateOptions;
  readonly #prompts: readonly Int32Array[];
  /** Of each sample why it cannot be answered; null where it can. */
  readonly #reasons: readonly (string | null)[];
  /** Samples that can be answered. */
  readonly #fitting: readonly number[];
  #mean: Tensor | null = null;

  constructor(subject: Subject, samples: readonly Sample[], options: EvaluateOptions) {
    this.#subject = subject;
    this.#options = options;
    const { latents, model } = subject;
    const prompts = samples.map(({ question }) => promptOrReason(subject, question));
    this.#prompts = prompts.map((prompt) => (typeof prompt === "string" ? new Int32Array() : prompt));
    const most = latents ? latentsAtMost(latents.policy) : 0;
    this.#reasons = prompts.map((prompt) => {
      if (typeof prompt === "string") return prompt;
      if (fits(model, prompt.length, most)) return null;
      return `the question has ${prompt.length} tokens, which with latents and an answer is more than the model's ${model.maxPositions}`;
    });
    this.#fitting = [...samples.keys()].filter((i) => this.#reasons[i] === null);
  }

  /** What has to be known of all samples before the first batch. */
  async prepare(): Promise<void> {
    if (this.#options.arms.includes("mean") && this.#fitting.length > 0) this.#mean = await this.#meanLatents();
  }

  dispose(): void {
    this.#mean?.dispose();
  }

  /** The answers of some samples, by their number; the reason of those that have none. */
  async answers(numbers: readonly number[]): Promise<ReadonlyMap<number, readonly Answered[] | string>> {
    const fitting = numbers.filter((i) => this.#reasons[i] === null);
    const answered = fitting.length > 0 ? await this.#answerOrFail(fitting) : new Map<number, string>();
    for (const i of numbers) if (!answered.has(i)) answered.set(i, this.#reasons[i] as string);
    return answered;
  }

  /** Answers samples; when scores of the batch are no numbers, each alone, so that only those to blame fail. */
  async #answerOrFail(numbers: readonly number[]): Promise<Map<number, readonly Answered[] | string>> {
    try {
      return await this.#answer(numbers);
    } catch (error) {
      if (!(error instanceof NumericError)) throw error;
      if (numbers.length === 1) return new Map([[numbers[0] as number, error.message]]);
      const alone = new Map<number, readonly Answered[] | string>();
      for (const i of numbers) for (const [one, result] of await this.#answerOrFail([i])) alone.set(one, result);
      return alone;
    }
  }

  async #answer(numbers: readonly number[]): Promise<Map<number, readonly Answered[]>> {
    const made = new Map(numbers.map((i): [number, Answered[]] => [i, []]));
    const add = (answers: readonly Answered[]): void => {
      for (const [b, answer] of answers.entries()) made.get(numbers[b] as number)?.push(answer);
    };
    if (this.#subject.latents) await this.#answerWithLatents(numbers, add);
    else await this.#answerInText(numbers, add);
    return made;
  }

  async #answerInText(numbers: readonly number[], add: (answers: readonly Answered[]) => void): Promise<void> {
    const { model } = this.#subject;
    const from = performance.now();
    const prefilled = prefill(model, this.#promptsOf(numbers), Math.min(this.#options.maxNewTokens, ANSWER_ROOM));
    try {
      await model.device.sync();
      const read = performance.now() - from;
      for (const seed of this.#options.seeds) {
        const { answers, milliseconds } = await this.#write(prefilled, numbers, seed);
        const seconds = (read + milliseconds) / 1000 / numbers.length;
        add(
          answers.map((answer) => ({ ...answer, arm: "own", seed, latents: this.#chainTokens(answer.ids), seconds })),
        );
      }
    } finally {
      prefilled.last.dispose();
      prefilled.cache.dispose();
    }
  }

  async #answerWithLatents(numbers: readonly number[], add: (answers: readonly Answered[]) => void): Promise<void> {
    const { model } = this.#subject;
    const { markers } = this.#latents;
    const from = performance.now();
    const thought = await this.#think(numbers);
    const held: Tensor[] = [];
    try {
      await model.device.sync();
      const thinking = performance.now() - from;
      const others = this.#options.arms.some((arm) => arm !== "own");
      const own = others ? latentsOf(thought, model) : [];
      held.push(...own);
      const donors = this.#options.arms.includes("other") ? await this.#donors(numbers, own) : [];
      held.push(...donors);
      for (const arm of this.#options.arms) {
        const begun = performance.now();
        const given = arm === "own" ? null : this.#replaced(arm, numbers, own, donors);
        held.push(...(given ?? []));
        const prefilled = given
          ? readThought(model, this.#promptsOf(numbers), given, markers)
          : closeThought(model, thought, markers);
        try {
          await model.device.sync();
          const reading = performance.now() - begun + (arm === "none" ? 0 : thinking);
          for (const seed of this.#options.seeds) {
            const { answers, milliseconds } = await this.#write(prefilled, numbers, seed);
            const seconds = (reading + milliseconds) / 1000 / numbers.length;
            const counts = given ? given.map(({ shape }) => shape[0] as number) : thought.counts;
            add(answers.map((answer, b) => ({ ...answer, arm, seed, latents: counts[b] as number, seconds })));
          }
        } finally {
          prefilled.last.dispose();
          if (given) prefilled.cache.dispose();
        }
      }
    } finally {
      for (const latent of held) latent.dispose();
      thought.dispose();
    }
  }

  get #latents(): NonNullable<Subject["latents"]> {
    return this.#subject.latents as NonNullable<Subject["latents"]>;
  }

  #promptsOf(numbers: readonly number[]): Int32Array[] {
    return numbers.map((i) => this.#prompts[i] as Int32Array);
  }

  #think(numbers: readonly number[]): ReturnType<typeof think> {
    const { source, policy, markers } = this.#latents;
    return think(this.#subject.model, source, this.#promptsOf(numbers), policy, markers);
  }

  async #write(prefilled: Parameters<typeof writeAnswers>[1], numbers: readonly number[], seed: number) {
    const { maxNewTokens, temperature, topP } = this.#options;
    const { model, stop } = this.#subject;
    const begun = performance.now();
    const answers = await writeAnswers(model, prefilled, {
      maxNewTokens,
      temperature,
      topP,
      seed,
      stop,
      samples: numbers,
    });
    return { answers, milliseconds: performance.now() - begun };
  }

  /** The latents [T, D] that an arm puts in place of each sample's own. */
  #replaced(
    arm: Exclude<Arm, "own">,
    numbers: readonly number[],
    own: readonly Tensor[],
    donors: readonly Tensor[],
  ): Tensor[] {
    return numbers.map((i, b) =>
      keep(
        untaped(() =>
          scope(() =>
            ablate(arm, {
              own: own[b] as Tensor,
              other: () => donors[b] as Tensor,
              mean: () => this.#mean as Tensor,
              seed: key(0).for("ablation").at(i),
            }),
          ),
        ),
      ),
    );
  }

  /** The latents of the question that follows each sample in the data, whichever of them can be answered. */
  async #donors(numbers: readonly number[], own: readonly Tensor[]): Promise<Tensor[]> {
    const next = numbers.map((i) => this.#fitting[(this.#fitting.indexOf(i) + 1) % this.#fitting.length] as number);
    const outside = [...new Set(next.filter((i) => !numbers.includes(i)))];
    const found: Tensor[] = [];
    try {
      for (let at = 0; at < outside.length; at += this.#options.batchSize) {
        found.push(...(await this.#latentsOf(outside.slice(at, at + this.#options.batchSize))));
      }
      return next.map((i) => {
        const inside = numbers.indexOf(i);
        const donor = (inside >= 0 ? own[inside] : found[outside.indexOf(i)]) as Tensor;
        return keep(donor.alias());
      });
    } finally {
      for (const latent of found) latent.dispose();
    }
  }

  async #latentsOf(numbers: readonly number[]): Promise<Tensor[]> {
    const thought = await this.#think(numbers);
    try {
      return latentsOf(thought, this.#subject.model);
    } finally {
      thought.dispose();
    }
  }

  /** [T, D]: at each step the mean over the samples that have a latent there. */
  async #meanLatents(): Promise<Tensor> {
    const { model } = this.#subject;
    const most = Math.max(1, latentsAtMost(this.#latents.policy));
    const counts = new Float32Array(most);
    let sum: Tensor = tensor(model.device, new Float32Array(most * model.width), { shape: [most, model.width] });
    for (let at = 0; at < this.#fitting.length; at += this.#options.batchSize) {
      const latents = await this.#latentsOf(this.#fitting.slice(at, at + this.#options.batchSize));
      for (const latent of latents) {
        const length = latent.shape[0] as number;
        for (let t = 0; t < length; t++) counts[t] = (counts[t] as number) + 1;
      }
      const added = untaped(() => scope(() => latents.reduce((total, latent) => total.add(padded(latent, most)), sum)));
      for (const old of [sum, ...latents]) old.dispose();
      sum = added;
    }
    const steps = counts.findLastIndex((count) => count > 0) + 1;
    const mean = untaped(() =>
      scope(() => {
        const each = tensor(model.device, counts.slice(0, steps), { shape: [steps, 1] });
        return sum.slice([0, steps]).div(each);
      }),
    );
    sum.dispose();
    return keep(mean);
  }

  /** Tokens of a text model's chain: those before the `###` of its answer, or the tiny model's `<ans>`. */
  #chainTokens(ids: readonly number[]): number {
    if (!this.#subject.chain) return 0;
    const stream = this.#subject.tokenizer.stream({ skipSpecialTokens: true });
    let text = "";
    const at = ids.findIndex((id) => /###|<ans>/.test((text += stream.push([id]))));
    return at < 0 ? ids.length : at;
  }
}

/** The prompt of a question, or why there is none. */
function promptOrReason(subject: Subject, question: string): Int32Array | string {
  try {
    return promptOf(subject, question);
  } catch (error) {
    if (error instanceof TokenizerError) return error.message;
    throw error;
  }
}

/** [T, D] with rows of zeros below. */
const padded = (x: Tensor, rows: number): Tensor =>
  pad(x, [
    [0, rows - (x.shape[0] as number)],
    [0, 0],
  ]);
