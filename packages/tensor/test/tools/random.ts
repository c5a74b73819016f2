/** Seeded choices for generators of test cases: the same on every machine. */

/** A stream of choices. */
export interface Random {
  /** An integer of 0 to `limit` - 1. */
  below(limit: number): number;
  /** True `percent` times of a hundred. */
  chance(percent: number): boolean;
  /** One of `items`, which must not be empty. */
  pick<T>(items: readonly T[]): T;
}

/**
 * Choices that depend on `seed` alone.
 *
 * @see mulberry32 by Tommy Ettinger, public domain
 */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
  return {
    below,
    chance: (percent) => below(100) < percent,
    pick: <T>(items: readonly T[]): T => items[below(items.length)] as T,
  };
}
