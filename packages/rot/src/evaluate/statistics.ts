/** Means and confidence intervals. */

/** The ends of an interval. */
export type Interval = readonly [low: number, high: number];

/** The mean; 0 of nothing. */
export const meanOf = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

/** The normal distribution's 97.5 % quantile. */
const Z = 1.959963984540054;

/**
 * The 95 % interval of a share, in percent. Unlike the normal approximation it is right near 0 and 100 % too.
 *
 * @see Wilson 1927, "Probable inference, the law of succession, and statistical inference"
 */
export function wilsonInterval(hits: number, of: number): Interval {
  if (of === 0) return [0, 100];
  const share = hits / of;
  const scale = 1 + Z ** 2 / of;
  const middle = (share + Z ** 2 / (2 * of)) / scale;
  const half = (Z / scale) * Math.sqrt((share * (1 - share)) / of + Z ** 2 / (4 * of ** 2));
  return [100 * Math.max(0, middle - half), 100 * Math.min(1, middle + half)];
}

/** Student's 97.5 % quantiles for 1 to 30 degrees of freedom. */
const quantiles = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** The 95 % interval of a mean of a few runs, by Student's t. */
export function seedInterval(values: readonly number[]): Interval {
  const mean = meanOf(values);
  const degrees = values.length - 1;
  if (degrees < 1) return [mean, mean];
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / degrees;
  const half = (quantiles[degrees - 1] ?? Z) * Math.sqrt(variance / values.length);
  return [mean - half, mean + half];
}
