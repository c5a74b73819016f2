/** Fixed-point arithmetic of hinting: positions are whole 64ths of a pixel, vectors have 14 fraction bits. */

/** One, with 14 fraction bits. */
export const one14 = 0x4000;

/** Halves away from zero. */
export function round(value: number): number {
  return value < 0 ? -Math.floor(0.5 - value) : Math.floor(value + 0.5);
}

/** A vector of length one along (x, y); along x where both are 0. */
export function unit(x: number, y: number): { x: number; y: number } {
  const length = Math.hypot(x, y);
  return length === 0 ? { x: one14, y: 0 } : { x: round((x / length) * one14), y: round((y / length) * one14) };
}

/** How distances are rounded. `S` is the general form, of which the program sets period, phase and threshold. */
export type Rounding =
  | "off"
  | "grid"
  | "half"
  | "double"
  | "down"
  | "up"
  | { readonly period: number; readonly phase: number; readonly threshold: number };

/** Rounds a distance; none crosses zero. */
export function roundBy(rounding: Rounding, distance: number): number {
  const sign = distance < 0 ? -1 : 1;
  const size = Math.abs(distance);
  switch (rounding) {
    case "off":
      return distance;
    case "grid":
      return sign * ((size + 32) & ~63);
    case "half":
      return sign * ((size & ~63) + 32);
    case "double":
      return sign * ((size + 16) & ~31);
    case "down":
      return sign * (size & ~63);
    case "up":
      return sign * ((size + 63) & ~63);
    default: {
      const { period, phase, threshold } = rounding;
      const rounded = Math.floor((size - phase + threshold) / period) * period + phase;
      return sign * (rounded < 0 ? phase : rounded);
    }
  }
}

/** The rounding that SROUND (a grid of 1) and S45ROUND (a grid of √½) take from one byte. */
export function generalRounding(selector: number, grid: number): Rounding {
  const period = [grid / 2, grid, grid * 2, grid][(selector >> 6) & 3] as number;
  const phase = (period * ((selector >> 4) & 3)) / 4;
  const low = selector & 15;
  const threshold = low === 0 ? period - 1 / 256 : ((low - 4) * period) / 8;
  return { period: Math.max(1, Math.floor(period)), phase: Math.floor(phase), threshold: Math.floor(threshold) };
}
