/**
 * Random keys: every random number is a function of a seed, what it is for, at which step, and of which sample. Nothing
 * is drawn from a running state, so neither the order of calls nor the size of a batch changes a number.
 */
import { UsageError } from "../errors.ts";
import { philox } from "./philox.ts";

/** A whole number from 0 up to 2⁵³, or a {@link RandomKey}. */
export type Seed = number | RandomKey;

const WORD = 2 ** 32;
/** Six UTF-16 code units fill the three counter words of one step of the purpose's hash. */
const UNITS = 6;

/** Where a tensor of random numbers takes them from. A plain value: copies of it give the same numbers. */
export class RandomKey {
  /** The Philox key: made of the seed and the purposes. */
  readonly words: readonly [number, number];
  /** The second and third counter words. The first counts blocks of four numbers, the fourth is 0. */
  readonly sample: number;
  readonly step: number;

  /** Made by {@link key}. */
  constructor(words: readonly [number, number], step: number, sample: number) {
    this.words = words;
    this.step = step;
    this.sample = sample;
  }

  /**
   * The key for one purpose at one step: `key(7).for("model.layers.3.dropout", step)`. Purposes may be nested.
   *
   * @throws {UsageError} when the step is no whole number below 2³²
   */
  for(purpose: string, step = 0): RandomKey {
    checkWord(step, "step");
    // The fourth word is 0 where numbers are drawn and odd here, so no key is made of words that are numbers too.
    let words = head(philox([purpose.length, this.sample, this.step, 1], this.words));
    for (let at = 0; at < purpose.length; at += UNITS) {
      const pair = (i: number): number =>
        (purpose.charCodeAt(at + i) | 0) + (purpose.charCodeAt(at + i + 1) | 0) * 0x10000;
      words = head(philox([pair(0), pair(2), pair(4), 2 * at + 3], words));
    }
    return new RandomKey(words, step, 0);
  }

  /**
   * The key of one sample: what belongs to it, wherever it stands in a batch.
   *
   * @throws {UsageError} when the sample is no whole number below 2³²
   */
  at(sample: number): RandomKey {
    checkWord(sample, "sample");
    return new RandomKey(this.words, this.step, sample);
  }

  /** What kernels that draw take besides their own uniforms. */
  get uniforms(): { key0: number; key1: number; step: number; sample: number } {
    return { key0: this.words[0], key1: this.words[1], step: this.step, sample: this.sample };
  }
}

/** The declaration of {@link RandomKey.uniforms}. */
export const keyUniforms = { key0: "u32", key1: "u32", step: "u32", sample: "u32" } as const;

const head = ([a, b]: readonly [number, number, number, number]): [number, number] => [a, b];

function checkWord(value: number, what: string): void {
  if (!Number.isInteger(value) || value < 0 || value >= WORD) {
    throw new UsageError(`random key: the ${what} is ${value}, not a whole number from 0 up to 2^32`);
  }
}

/**
 * The key of a seed. A key is returned as it is.
 *
 * @throws {UsageError} when the seed is no whole number from 0 up to 2⁵³
 */
export function key(seed: Seed): RandomKey {
  if (seed instanceof RandomKey) return seed;
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new UsageError(`random key: the seed is ${seed}, not a whole number from 0 up to 2^53`);
  }
  return new RandomKey([seed % WORD, Math.floor(seed / WORD)], 0, 0);
}
