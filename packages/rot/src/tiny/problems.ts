/** The problems of the tiny model: a digit and five operations modulo 10, from left to right. */
import { key, philox, type RandomKey, type Seed } from "@rot/tensor";

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

/** Problems to learn from and problems to be tested on. */
export interface Problems {
  /** The same ones whatever the seed of training is. */
  readonly test: readonly Problem[];
  /** Problem number `sample` of a purpose; never one of {@link test}. */
  training(purpose: RandomKey, sample: number): Problem;
}

/** @param count  problems of the test */
export function createProblems(count = 500, seed: Seed = 12_345): Problems {
  const test = new Map<string, Problem>();
  for (let sample = 0; test.size < count; sample++) {
    const problem = drawProblem(key(seed).for("tiny.test").at(sample));
    test.set(problem.question, problem);
  }
  return {
    test: [...test.values()],
    training(purpose, sample) {
      for (let attempt = 0; ; attempt++) {
        const problem = drawProblem((attempt === 0 ? purpose : purpose.for("again", attempt)).at(sample));
        if (!test.has(problem.question)) return problem;
      }
    },
  };
}
