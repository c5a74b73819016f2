/** The order of the samples: seeded, another one each epoch, and any position of it without walking there. */
import { philox, type RandomKey } from "@rot/tensor";

/**
 * A random order of the numbers below `count`.
 *
 * @param key  what it is a function of
 * @see Durstenfeld 1964, "Algorithm 235: Random permutation"
 */
export function permutation(count: number, key: RandomKey): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let words: readonly number[] = [];
  for (let i = count - 1; i > 0; i--) {
    const draw = count - 1 - i;
    if (draw % 4 === 0) words = philox([draw / 4, key.sample, key.step, 0], key.words);
    const other = Math.floor(((words[draw % 4] as number) / 2 ** 32) * (i + 1));
    [order[i], order[other]] = [order[other] as number, order[i] as number];
  }
  return order;
}

/** Samples in the order of training: epoch after epoch, each sample once in each. */
export interface SampleOrder {
  /**
   * The samples at some positions, counted from the begin of training.
   *
   * @param position  the first
   * @param count     how many; they may run into the next epoch
   * @returns         numbers of samples
   */
  take(position: number, count: number): number[];
}

/**
 * The order of `count` samples.
 *
 * @param count  at least 1
 * @param key    made for this purpose of the seed of the run
 */
export function sampleOrder(count: number, key: RandomKey): SampleOrder {
  let epoch = -1;
  let order = new Uint32Array();
  return {
    take: (position, wanted) =>
      Array.from({ length: wanted }, (_, i) => {
        const at = position + i;
        const wantedEpoch = Math.floor(at / count);
        if (wantedEpoch !== epoch) {
          epoch = wantedEpoch;
          order = permutation(count, key.for("epoch", epoch)) as Uint32Array<ArrayBuffer>;
        }
        return order[at % count] as number;
      }),
  };
}
