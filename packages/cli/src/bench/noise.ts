/** Numbers that every peer makes alike, in any language, from their places. */

/** Numbers in [−½, ½), exact in f32: a hash of the place and the seed. */
export function noise(count: number, seed: number): Float32Array {
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let x = (i + Math.imul(seed, 0x9e3779b9)) | 0;
    x ^= x >>> 16;
    x = Math.imul(x, 0x7feb352d);
    x ^= x >>> 15;
    x = Math.imul(x, 0x846ca68b);
    x ^= x >>> 16;
    numbers[i] = (x >>> 8) / 2 ** 24 - 0.5;
  }
  return numbers;
}

/** Four elements of a result, by which peers are compared: the first two, the middle one and the last. */
export function fingerprint(values: ArrayLike<number>): number[] {
  const last = values.length - 1;
  return [0, Math.min(1, last), values.length >> 1, last].map((i) => values[i] as number);
}

/** Whether two fingerprints are those of one result in f32: within 2 % of the largest number in them. */
export function agree(got: readonly number[], want: readonly number[]): boolean {
  const scale = Math.max(...want.map(Math.abs), 1e-30);
  return got.length === want.length && got.every((v, i) => Math.abs(v - (want[i] as number)) <= 0.02 * scale);
}
