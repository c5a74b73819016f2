/** Training and validation, split by a hash of each sample: the same wherever it stands, and whatever stands beside it. */
import { philox } from "@rot/tensor";
import type { Sample } from "./sample.ts";

/** A dataset in two. */
export interface Split {
  readonly train: readonly Sample[];
  readonly validation: readonly Sample[];
}

/**
 * Splits samples.
 *
 * @param share  the part that validates, from 0 to 1; each sample is drawn on its own, so the number is near it
 * @param seed   another seed splits otherwise
 */
export function split(samples: readonly Sample[], share: number, seed: number): Split {
  const train: Sample[] = [];
  const validation: Sample[] = [];
  for (const sample of samples) (unitHash(sample.question, seed) < share ? validation : train).push(sample);
  return { train, validation };
}

/** A number in [0, 1) that depends on a text and a seed alone. Samples with one question stay on one side. */
function unitHash(text: string, seed: number): number {
  let words: [number, number] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  for (let at = 0; at <= text.length; at += 8) {
    const word = (i: number): number =>
      ((text.charCodeAt(at + i) | 0) + (text.charCodeAt(at + i + 1) | 0) * 0x10000) >>> 0;
    const [a, b] = philox([word(0), word(2), word(4), word(6)], words);
    words = [a, b];
  }
  return words[0] / 2 ** 32;
}
