/** Damages bytes at random, with a fixed seed. */

/** xorshift32: whole numbers below `bound`. */
export function random(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
}

/** `bytes` with one to four bytes changed, a piece cut out, doubled, or the end cut off. */
export function mutate(bytes: Uint8Array, next: (bound: number) => number): Uint8Array {
  const result = Uint8Array.from(bytes);
  const at = next(bytes.length);
  const length = 1 + next(16);
  switch (next(6)) {
    case 0:
      return result.slice(0, at);
    case 1:
      return Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
    case 2:
      return Buffer.concat([result.subarray(0, at + length), result.subarray(at)]);
    default:
      for (let i = 0; i <= next(4); i++) result[next(bytes.length)] = next(256);
      return result;
  }
}
