/** Distributions of numbers, as the statistics file holds them. */

/** Numbers in short. The names are those of the reference's file. */
export interface Distribution {
  readonly mean: number;
  /** Of the population: divided by the count, not by one less. */
  readonly std: number;
  readonly min: number;
  readonly max: number;
  readonly median: number;
  /** Interpolated between the two nearest values, as numpy does. */
  readonly percentile_95: number;
}

/** The distribution of some numbers; all 0 of none. */
export function summarize(values: readonly number[]): Distribution {
  if (values.length === 0) return { mean: 0, std: 0, min: 0, max: 0, median: 0, percentile_95: 0 };
  const sorted = Float64Array.from(values).sort();
  const mean = sum(values, (value) => value) / values.length;
  return {
    mean,
    std: Math.sqrt(sum(values, (value) => (value - mean) ** 2) / values.length),
    min: sorted[0]!,
    max: sorted.at(-1)!,
    median: quantile(sorted, 0.5),
    percentile_95: quantile(sorted, 0.95),
  };
}

/**
 * The value below which a share of the values lies, interpolated.
 *
 * @param sorted  ascending, not empty
 * @param share   0 to 1
 */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const [low, high] = [sorted[below]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - below);
}

function sum(values: readonly number[], of: (value: number) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}
