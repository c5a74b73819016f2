/** Which keys a query sees, as one contiguous range for each query. */
import { ShapeError, tensor, type Tensor } from "@rot/tensor";
import type { Device } from "@rot/tensor/kernel";

/** Ranges of a batch. */
interface Ranges {
  /** For each sequence where its keys end. */
  readonly lengths: readonly number[];
  /** For each sequence where its keys begin; 0 by default. More where it is padded on the left. */
  readonly starts?: readonly number[];
  /** Lq, alike for the whole batch. */
  readonly queries: number;
}

const isCount = (n: number | undefined): n is number => n !== undefined && Number.isInteger(n) && n >= 0 && n < 2 ** 31;

/** Uploads one range for each query. */
function build(
  who: string,
  device: Device,
  { lengths, starts, queries }: Ranges,
  rangeOf: (start: number, length: number, query: number) => readonly [begin: number, end: number],
): Tensor {
  if (![queries].every(isCount)) throw new ShapeError(`${who}: queries is ${queries}, not a count`);
  if (starts && starts.length !== lengths.length) {
    throw new ShapeError(`${who}: ${starts.length} starts for ${lengths.length} lengths`);
  }
  const values = new Int32Array(2 * lengths.length * queries);
  for (const [b, length] of lengths.entries()) {
    const start = starts ? starts[b] : 0;
    if (!isCount(length) || !isCount(start) || start > length) {
      throw new ShapeError(`${who}: sequence ${b} has keys from ${start} to ${length}`);
    }
    for (let i = 0; i < queries; i++) values.set(rangeOf(start, length, i), 2 * (b * queries + i));
  }
  return tensor(device, values, { shape: [lengths.length, queries, 2], dtype: "i32" });
}

/** Makes the `visible` of {@link attention}: i32 [B or 1, Lq, 2], for each query the keys [begin, end) it sees. */
export const visibleKeys = {
  /**
   * Sequences of different length in one batch, padded right or left: every query sees the keys [start, length) of its
   * sequence. Together with `causal` it is what a decoder needs.
   *
   * @throws {ShapeError} when a range is none
   */
  padded: (device: Device, ranges: Ranges): Tensor =>
    build("visibleKeys.padded", device, ranges, (start, length) => [start, length]),

  /**
   * The last tokens of a sequence over a cache whose tail is not used yet: query i of `queries` sees the keys from `start`
   * to its own, which is `length − queries + i`. Lengths count the keys of this step. It needs no `causal`.
   *
   * @throws {ShapeError} when a range is none
   */
  cached: (device: Device, ranges: Ranges): Tensor =>
    build("visibleKeys.cached", device, ranges, (start, length, i) => [
      start,
      Math.max(start, length - ranges.queries + i + 1),
    ]),

  /**
   * Packed segments, as a vision tower has them: every token sees those of its own segment.
   *
   * @param cumulative  where segments end, from 0 on: [0, 4, 10] are two segments, of 4 and of 6 tokens
   * @throws {ShapeError} unless it begins with 0 and never falls
   */
  segments(device: Device, cumulative: readonly number[]): Tensor {
    if (cumulative[0] !== 0) throw new ShapeError("visibleKeys.segments: cumulative lengths begin with 0");
    const segments = cumulative.slice(1).map((end, i) => [cumulative[i] as number, end] as const);
    for (const [i, [begin, end]] of segments.entries()) {
      if (!isCount(end) || end < begin) {
        throw new ShapeError(`visibleKeys.segments: segment ${i} goes from ${begin} to ${end}`);
      }
    }
    const values = new Int32Array(2 * (cumulative.at(-1) as number));
    for (const [begin, end] of segments) {
      for (let token = begin; token < end; token++) values.set([begin, end], 2 * token);
    }
    return tensor(device, values, { shape: [1, values.length / 2, 2], dtype: "i32" });
  },
};
