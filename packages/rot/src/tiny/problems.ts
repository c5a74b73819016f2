/** The problems of the tiny model: a digit and five operations modulo 10, from left to right. */
import { key, philox, type RandomKey, type Seed } from "@rot/tensor";
import type { Sample } from "../data/sample.ts";

/** Operations of a problem. A strip of so many steps is read as so many latents. */
export const STEPS = 5;

export interface Problem {
  /** `8-5+3+1+2*7` */
  readonly question: string;
  /** What each operation leads to, the answer last: 3, 6, 7, 9, 3. */
  readonly values: readonly number[];
}

/** Whole numbers from 0 up to a bound, one after the other: a function of the key. */
export function integers({ words, sample, step }: RandomKey): (bound: number) => number {
  let four: readonly number[] = [];
  let drawn = 0;
  return (bound) => {
    if (drawn % 4 === 0) four = philox([drawn / 4, sample, step, 0], words);
    return Math.floor(((four[drawn++ % 4] as number) / 2 ** 32) * bound);
  };
}

const operations = {
  "+": (a: number, b: number) => a + b,
  "-": (a: number, b: number) => a - b + 10,
  "*": (a: number, b: number) => a * b,
} as const;
const signs = ["+", "-", "*"] as const;

/** A problem: the first digit from 0, the others from 1, or from 2 where they multiply. */
export function drawProblem(from: RandomKey): Problem {
  const below = integers(from);
  let value = below(10);
  let question = String(value);
  const values: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const sign = signs[below(signs.length)] as (typeof signs)[number];
    const operand = sign === "*" ? 2 + below(8) : 1 + below(9);
    value = operations[sign](value, operand) % 10;
    question += sign + operand;
    values.push(value);
  }
  return { question, values };
}

/** The steps of a chain as they are written and drawn: `3, 6, 7, 9, 3`. */
export const chainText = (values: readonly number[]): string => values.join(", ");

/** Characters of {@link chainText} from one value to the next. */
export const STRIDE = 3;

/** Problems to learn from, to watch training by and to be tested on; no problem is in two of them. */
export interface Problems {
  /** What decides of the recipe are made by, and what training reports. */
  readonly validation: readonly Problem[];
  /** What results are reported on, and nothing else. */
  readonly test: readonly Problem[];
  /** Problem number `sample` of a purpose. */
  training(purpose: RandomKey, sample: number): Problem;
}

/**
 * The validation problems are those that the recipe was tuned on. The test problems are drawn from another seed, and were
 * never looked at before the recipe was settled. Both are the same whatever the seed of training is.
 */
const SEEDS = { validation: 12_345, test: 20_261_121 } as const;

/** @param count  problems of the validation, and of the test */
export function createProblems(count = 500): Problems {
  const held = new Set<string>();
  const draw = (seed: Seed): Problem[] => {
    const problems: Problem[] = [];
    for (let sample = 0; problems.length < count; sample++) {
      const problem = drawProblem(key(seed).for("tiny.test").at(sample));
      if (held.has(problem.question)) continue;
      held.add(problem.question);
      problems.push(problem);
    }
    return problems;
  };
  return {
    validation: draw(SEEDS.validation),
    test: draw(SEEDS.test),
    training(purpose, sample) {
      for (let attempt = 0; ; attempt++) {
        const problem = drawProblem((attempt === 0 ? purpose : purpose.for("again", attempt)).at(sample));
        if (!held.has(problem.question)) return problem;
      }
    },
  };
}

/** Problems of the test as samples of a dataset. */
export const tinySamples = (count?: number): Sample[] =>
  createProblems()
    .test.slice(0, count)
    .map(({ question, values }, id) => ({ id, question, cot: chainText(values), answer: String(values.at(-1)) }));
