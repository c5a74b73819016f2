/** How well the tiny model answers, and what its latents are worth. All problems at once, greedily. */
import type { VisionLanguageModel } from "@rot/models";
import { argmax, flip, gatherRows, scope, stack, tensor, type Tensor, untaped } from "@rot/tensor";
import { rollOut } from "../latent/rollout.ts";
import type { ProjectionHead } from "../methods/rot/head.ts";
import { thoughtPrompt } from "./arms.ts";
import { chainText, type Problem, STEPS, STRIDE } from "./problems.ts";
import type { Strips } from "./strips.ts";
import { decode, encode, marks } from "./vocabulary.ts";

/**
 * Goes on after prompts of one length.
 *
 * @param prompts  {@link marks.image} stands where a latent is
 * @param latents  [N, D], what stands there
 * @param count    tokens to add to each
 */
async function complete(
  model: VisionLanguageModel,
  prompts: readonly (readonly number[])[],
  latents: Tensor | null,
  count: number,
): Promise<number[][]> {
  const { device } = model;
  const length = (prompts[0] as readonly number[]).length;
  const ids = Int32Array.from(prompts.flat());
  const rows = Int32Array.from(ids.keys()).filter((row) => ids[row] === marks.image);
  const cache = model.newCache(prompts.length, { capacity: length + count });
  const tokens = scope(() =>
    untaped(() => {
      const images = latents ? { images: { tokens: latents, deepstack: [], rows } } : {};
      let hidden = model.forward(model.embed(tensor(device, ids, { shape: [prompts.length, length], dtype: "i32" })), {
        cache,
        rows: Int32Array.from(prompts, (_, b) => b * length + length - 1),
        ...images,
      });
      const chosen: Tensor[] = [];
      for (let i = 0; i < count; i++) {
        const next = argmax(model.logits(hidden.reshape(prompts.length, -1)), -1);
        chosen.push(next);
        if (i + 1 < count) hidden = model.forward(model.embed(next.reshape(-1, 1)), { cache });
      }
      return stack(chosen, 1);
    }),
  );
  cache.dispose();
  const values = await tokens.read();
  tokens.dispose();
  return prompts.map((_, b) => Array.from(values.subarray(b * count, (b + 1) * count)));
}

/** How an arm did. */
export interface Score {
  /** The part of the problems that it answered right. */
  readonly accuracy: number;
  /** Tokens of text or latents before the answer, on average. */
  readonly thoughts: number;
  /** Seconds to answer all problems. */
  readonly seconds: number;
}

const right = (problem: Problem, said: readonly number[]): boolean =>
  said[0] === marks.answer && decode(said.slice(1)) === `${problem.values.at(-1)}<eos>`;

const since = (begin: number): number => (performance.now() - begin) / 1000;

const share = (problems: readonly Problem[], isRight: (problem: Problem, i: number) => boolean): number =>
  problems.filter(isRight).length / problems.length;

const prompt = ({ question }: Problem, mark: number): number[] => [marks.question, ...encode(question), mark];

/** Answers at once. */
export async function scoreDirect(model: VisionLanguageModel, problems: readonly Problem[]): Promise<Score> {
  const begin = performance.now();
  const prompts = problems.map((problem) => prompt(problem, marks.answer));
  const said = await complete(model, prompts, null, 2);
  const accuracy = share(problems, (problem, i) => right(problem, [marks.answer, ...(said[i] as number[])]));
  return { accuracy, thoughts: 0, seconds: since(begin) };
}

/** Characters of a chain, and of what follows it: `<ans>`, a digit, `<eos>`. */
const CHAIN = STRIDE * (STEPS - 1) + 1;
const ANSWER = 3;

/** Writes its steps first. */
export async function scoreChain(model: VisionLanguageModel, problems: readonly Problem[]): Promise<Score> {
  const begin = performance.now();
  const prompts = problems.map((problem) => prompt(problem, marks.chain));
  const said = await complete(model, prompts, null, CHAIN + ANSWER);
  const chains = said.map((tokens) => tokens.indexOf(marks.answer));
  const lengths = chains.map((at) => (at < 0 ? CHAIN + ANSWER : at));
  const accuracy = share(
    problems,
    (problem, i) =>
      (chains[i] as number) >= 0 &&
      right(problem, (said[i] as number[]).slice(chains[i], (chains[i] as number) + ANSWER)),
  );
  const thoughts = lengths.reduce((sum, n) => sum + n, 0) / problems.length;
  return { accuracy, thoughts, seconds: since(begin) };
}

/** What may stand in place of the latents that a question led to. */
export const ablations = ["other", "mean", "reversed", "zeros", "none", "drawn"] as const;
export type Ablation = (typeof ablations)[number];

/** How Render-of-Thought did. */
export interface ThoughtScore extends Score {
  /**
   * Accuracy with latents of `other` questions, their `mean` over all questions, its own in reverse order
   * (`reversed`), `zeros`, `none`, and what the tower sees in the right chain (`drawn`).
   */
  readonly ablations: Readonly<Record<Ablation, number>>;
  /** The part of the questions whose latent at each step the base reads as the right digit. */
  readonly readable: readonly number[];
  /** What the base reads in the latents of the first questions. */
  readonly examples: readonly { readonly question: string; readonly right: string; readonly read: string }[];
}

const EXAMPLES = 5;

/** What generates latents, and answers from them. */
export interface Thinker {
  readonly model: VisionLanguageModel;
  readonly head: ProjectionHead;
}

/** The latents of each question: [B, T, D]. */
const think = ({ model, head }: Thinker, problems: readonly Problem[]): Tensor =>
  scope(() => {
    const counts = problems.map(() => STEPS);
    const { latents } = rollOut(model, head, problems.map(thoughtPrompt), counts);
    return latents.transpose(0, 1).reshape(problems.length, STEPS, -1);
  });

/** The part of the problems that is answered right from latents [B, T, D], or from none. */
async function accuracyFrom(
  thought: Tensor | null,
  model: VisionLanguageModel,
  problems: readonly Problem[],
): Promise<number> {
  const marked = [...Array<number>(thought ? STEPS : 0).fill(marks.image), marks.done];
  const prompts = problems.map((problem) => [...prompt(problem, marks.begin), ...marked]);
  const said = await complete(model, prompts, thought && thought.flatten(0, 1), ANSWER);
  return share(problems, (problem, i) => right(problem, said[i] as number[]));
}

/** The part of the problems that is answered right after thinking in latents. */
export async function thoughtAccuracy(thinker: Thinker, problems: readonly Problem[]): Promise<number> {
  using own = think(thinker, problems);
  return await accuracyFrom(own, thinker.model, problems);
}

/**
 * Thinks in latents, and looks at what they are worth.
 *
 * @param reader  the base, which can read strips
 */
export async function scoreThoughts(
  thinker: Thinker,
  reader: VisionLanguageModel,
  strips: Strips,
  problems: readonly Problem[],
): Promise<ThoughtScore> {
  const begin = performance.now();
  using own = think(thinker, problems);
  const accuracy = await accuracyFrom(own, thinker.model, problems);
  const seconds = since(begin);

  const B = problems.length;
  const replacements: Record<Ablation, () => Tensor | null> = {
    other: () =>
      gatherRows(
        own,
        Int32Array.from({ length: B }, (_, b) => (b + 1) % B),
      ),
    mean: () =>
      own
        .mean(0)
        .reshape(1, STEPS, -1)
        .expand(B, STEPS, own.shape[2] as number),
    reversed: () => flip(own, 1),
    zeros: () => own.mul(0),
    none: () => null,
    drawn: () =>
      strips
        .see(
          reader,
          problems.map(({ values }) => values),
        )
        .reshape(B, STEPS, -1),
  };
  const results = {} as Record<Ablation, number>;
  for (const name of ablations) {
    const thought = untaped(() => scope(replacements[name]));
    results[name] = await accuracyFrom(thought, thinker.model, problems);
    thought?.dispose();
  }
  const before = [marks.read, marks.begin, ...Array<number>(STEPS).fill(marks.image), marks.done];
  const read = await complete(
    reader,
    problems.map(() => before),
    own.flatten(0, 1),
    CHAIN,
  );
  return {
    accuracy,
    thoughts: STEPS,
    seconds,
    ablations: results,
    readable: Array.from({ length: STEPS }, (_, step) =>
      share(problems, ({ values }, i) => read[i]?.[STRIDE * step] === encode(String(values[step]))[0]),
    ),
    examples: problems.slice(0, EXAMPLES).map(({ question, values }, i) => ({
      question,
      right: chainText(values),
      read: decode(read[i] as number[]),
    })),
  };
}
