/**
 * How the tiny model comes to know what Render-of-Thought takes for granted: to read strips, to reason in text, and to go on
 * in text from steps that it is shown as pictures.
 *
 * The vision tower learns first and is frozen then. Each latent is also read alone, without the rest of its strip: else the
 * tower spreads a digit over several, and what is spread cannot be predicted step by step.
 */
import type { Pretrained } from "@rot/models";
import { assign, gatherRows, grad, key, scope, type Seed, tensor, type Tensor, untaped } from "@rot/tensor";
import type { OptimizerSettings, StepGradients, TrainingTask } from "../train/task.ts";
import { trainable } from "./model.ts";
import { chainText, integers, type Problem, type Problems, STEPS } from "./problems.ts";
import type { Strips } from "./strips.ts";
import { type Sequence, textLosses } from "./text-losses.ts";
import { encode, marks } from "./vocabulary.ts";

/** What the tiny model learns from. */
export interface Material {
  readonly problems: Problems;
  readonly strips: Strips;
}

/** What a stage of the tiny model may be told. */
export interface StageOptions {
  readonly seed: Seed;
  /** Steps at most. */
  readonly steps?: number;
}

/** AdamW with a short warm-up, then down along a cosine to a part of the rate. */
export function tinyOptimizer(lr: number, steps: number, least = 0.05): OptimizerSettings {
  const warmup = Math.max(1, Math.floor(0.05 * steps));
  const schedule = (step: number): number => {
    if (step < warmup) return (step + 1) / warmup;
    const way = (step - warmup) / Math.max(1, steps - warmup);
    return least + (1 - least) * 0.5 * (1 + Math.cos(Math.PI * way));
  };
  return { lr, schedule, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.01, maxGradNorm: 1 };
}

const READERS = 24;

/** The first stage of the base: strips of random digits, whole and cell by cell. Trains everything. */
export function readingTask(base: Pretrained, { strips }: Material, { seed, steps = 300 }: StageOptions): TrainingTask {
  const { model, parameters } = trainable(base, "all");
  return {
    name: "reading",
    parameters,
    steps,
    optimizer: tinyOptimizer(3e-3, steps, 0.2),
    gradients(step) {
      const below = integers(key(seed).for("tiny.reading", step));
      const count = 1 + below(STEPS);
      const chains = Array.from({ length: READERS }, () => Array.from({ length: count }, () => below(10)));
      return scope(() => {
        const latents = strips.see(model.model, chains);
        const whole = textLosses(model.model, [chains.map((chain) => reading(chain, count))], latents);
        const cells = chains.flatMap((chain) => chain.map((digit) => reading([digit], 1)));
        const single = textLosses(model.model, [cells], latents);
        return backwards({ whole, cell: single }, [1, 1], parameters, {
          samples: READERS,
          latents: READERS * count,
        });
      });
    },
  };
}

/** Gradients of a weighted sum of losses, each [1]. */
function backwards(
  losses: Readonly<Record<string, Tensor>>,
  weights: readonly number[],
  parameters: ReadonlyMap<string, Tensor>,
  counts: Readonly<Record<string, number>>,
): StepGradients {
  const parts = Object.values(losses).map((loss, i) => loss.mul(weights[i] as number));
  const loss = parts.reduce((sum, part) => sum.add(part)).reshape();
  return { losses: { ...losses, loss }, gradients: grad(loss, [...parameters.values()]), counts };
}

/** `<read><img_begin>` latents `<img_end>` what they say `<eos>` */
function reading(values: readonly number[], count: number): Sequence {
  const before = [marks.read, marks.begin, ...Array<number>(count).fill(marks.image), marks.done];
  return { tokens: [...before, ...encode(chainText(values)), marks.end], from: before.length };
}

const last = (values: readonly number[]): string => String(values.at(-1));
const question = (problem: Problem): number[] => [marks.question, ...encode(problem.question)];
const answer = ({ values }: Problem): number[] => [marks.answer, ...encode(last(values)), marks.end];

/** `<q>` question `<cot>` steps `<ans>` answer `<eos>` */
export function chainSequence(problem: Problem): Sequence {
  const before = [...question(problem), marks.chain];
  return { tokens: [...before, ...encode(chainText(problem.values)), ...answer(problem)], from: before.length };
}

/** `<q>` question `<ans>` answer `<eos>` */
export function directSequence(problem: Problem): Sequence {
  const before = [...question(problem), marks.answer];
  return { tokens: [...before, ...encode(last(problem.values)), marks.end], from: before.length };
}

/**
 * `<q>` question `<img_begin>` the first latents, then the next step as text; after all latents `<img_end><ans>` answer `<eos>`.
 * In place of each latent the digit is learnt that it shows, so that every latent is asked for the step after it. Further steps
 * as text would have to be counted in places that the latents have shifted, at which training may get stuck.
 */
function mixedSequence(problem: Problem, shown: number): Sequence {
  const before = [...question(problem), marks.begin];
  const digits = problem.values.slice(0, shown).flatMap((value) => encode(String(value)));
  const after = shown === STEPS ? [marks.done, ...answer(problem)] : encode(String(problem.values[shown]));
  const tokens = [...before, ...digits.map(() => marks.image), ...after];
  return { tokens, from: before.length, labels: [...before, ...digits, ...after] };
}

/** Sequences of a step: chains as text, strips to read, and chains that are pictures up to some step. */
const CHAINS = 14;
const STRIPS = 4;
const MIXED = 22;
/** What the losses are averaged over to see whether the base is done, and what they must fall below. */
const WINDOW = 20;
const ENOUGH = 0.01;

/**
 * The second stage of the base, with the tower frozen. It ends when the losses of chains are small: before, the decoder has
 * not understood, and the stages that follow fail.
 */
export const chainTask = (
  base: Pretrained,
  material: Material,
  { seed, steps = 1500 }: StageOptions,
): TrainingTask => ({
  ...mixture("chains", base, material, seed),
  steps,
  // Most end after 700 to 1,000 steps, at a rate that is still high.
  optimizer: tinyOptimizer(3e-3, 2 * steps),
  isDone(losses) {
    const recent = losses.slice(-WINDOW);
    const mean = (name: string): number => recent.reduce((sum, each) => sum + (each[name] as number), 0) / WINDOW;
    return recent.length === WINDOW && mean("chain") < ENOUGH && mean("mixed") < ENOUGH;
  },
});

/**
 * The end of the base: the same, down to a rate of nothing. Chains end at a high rate, at which a step may spoil for a
 * while what was learnt, most often the reading of strips.
 */
export const cooldownTask = (
  base: Pretrained,
  material: Material,
  { seed, steps = 300 }: StageOptions,
): TrainingTask => ({
  ...mixture("cooldown", base, material, seed),
  steps,
  optimizer: tinyOptimizer(1e-3, steps, 0),
});

/** Chains as text, strips to read, and chains that begin as pictures: what the decoder of the base learns from. */
function mixture(
  name: string,
  base: Pretrained,
  { problems, strips }: Material,
  seed: Seed,
): Pick<TrainingTask, "name" | "parameters" | "gradients"> {
  const { model, parameters } = trainable(base, "decoder");
  const weights = [CHAINS, STRIPS, MIXED].map((count) => count / (CHAINS + STRIPS + MIXED));
  return {
    name,
    parameters,
    gradients(step) {
      const below = integers(key(seed).for(`tiny.${name}`, step));
      const digits = Array.from({ length: STRIPS }, () => Array.from({ length: 1 + below(STEPS) }, () => below(10)));
      const shown = Array.from({ length: MIXED }, () => below(STEPS + 1));
      const from = key(seed).for(`tiny.${name}.problems`);
      const drawn = Array.from({ length: CHAINS + MIXED }, (_, i) =>
        problems.training(from, step * (CHAINS + MIXED) + i),
      );
      const [texts, mixed] = [drawn.slice(0, CHAINS), drawn.slice(CHAINS)];
      return scope(() => {
        const latents = untaped(() => {
          const cells = strips.see(base.model, [...digits, ...mixed.map(({ values }) => values)]);
          return gatherRows(
            cells,
            firstCells([
              ...digits.map((chain) => [chain.length, chain.length] as const),
              ...shown.map((count) => [STEPS, count] as const),
            ]),
          );
        });
        const groups = [
          texts.map(chainSequence),
          digits.map((chain) => reading(chain, chain.length)),
          mixed.map((problem, i) => mixedSequence(problem, shown[i] as number)),
        ];
        const each = textLosses(model.model, groups, latents);
        const [chain, read, continued] = [0, 1, 2].map((i) => each.slice([i, i + 1]));
        const loss = each.mul(tensor(base.model.device, weights)).sum();
        return {
          losses: { loss, chain, read, mixed: continued } as StepGradients["losses"],
          gradients: grad(loss, [...parameters.values()]),
          counts: { samples: CHAINS + STRIPS + MIXED, latents: latents.shape[0] as number },
        };
      });
    },
  };
}

/** The rows of the first cells of strips that lie one after the other: so many of each are wanted, of so many. */
function firstCells(strips: readonly (readonly [cells: number, wanted: number])[]): Int32Array {
  const rows: number[] = [];
  let begin = 0;
  for (const [cells, wanted] of strips) {
    for (let cell = 0; cell < wanted; cell++) rows.push(begin + cell);
    begin += cells;
  }
  return Int32Array.from(rows);
}

const SCALED = ["weight", "bias"].map((name) => `model.visual.merger.linear_fc2.${name}`);
const SAMPLE = 64;

/**
 * Scales the last layer of the tower so that latents have components of mean square 1, as the losses of the latents expect.
 *
 * @returns  the root of their mean square before
 */
export async function scaleLatents(base: Pretrained, { problems, strips }: Material): Promise<number> {
  const from = key(0).for("tiny.scale");
  const chains = Array.from({ length: SAMPLE }, (_, i) => problems.training(from, i).values);
  const square = scope(() => untaped(() => strips.see(base.model, chains).square().mean()));
  const root = Math.sqrt(await square.item());
  square.dispose();
  for (const name of SCALED) {
    const parameter = base.weights.get(name) as Tensor;
    scope(() => untaped(() => assign(parameter, parameter.mul(1 / root))));
  }
  return root;
}
