/** What a hinting program works on. */
import type { Rounding } from "./fixed.ts";

/** A program that does what it must not; its glyph is then drawn without hinting. */
export class HintingError extends Error {
  override readonly name = "HintingError";
}

/** Points: `unscaled` in font units, `original` before and `current` after moves, in 64ths of a pixel, y up. */
export interface Zone {
  readonly count: number;
  readonly unscaledX: Float64Array;
  readonly unscaledY: Float64Array;
  readonly originalX: Float64Array;
  readonly originalY: Float64Array;
  readonly x: Float64Array;
  readonly y: Float64Array;
  readonly touchedX: Uint8Array;
  readonly touchedY: Uint8Array;
  readonly onCurve: Uint8Array;
  /** The last point of every contour. */
  readonly ends: readonly number[];
}

/** A zone of points at the origin. */
export function zone(count: number, ends: readonly number[] = []): Zone {
  const numbers = (): Float64Array => new Float64Array(count);
  const flags = (): Uint8Array => new Uint8Array(count);
  return {
    count,
    ends,
    unscaledX: numbers(),
    unscaledY: numbers(),
    originalX: numbers(),
    originalY: numbers(),
    x: numbers(),
    y: numbers(),
    touchedX: flags(),
    touchedY: flags(),
    onCurve: flags(),
  };
}

/** A vector with 14 fraction bits. */
export interface Vector {
  readonly x: number;
  readonly y: number;
}

/** The graphics state: what programs set for the instructions after. */
export interface GraphicsState {
  projection: Vector;
  /** The projection for original positions. */
  dual: Vector;
  freedom: Vector;
  rp: [number, number, number];
  zp: [number, number, number];
  loop: number;
  minimumDistance: number;
  rounding: Rounding;
  autoFlip: boolean;
  cutIn: number;
  singleWidth: number;
  singleWidthCutIn: number;
  deltaBase: number;
  deltaShift: number;
  instructControl: number;
}

const alongX: Vector = { x: 0x4000, y: 0 };

/** The state before any program has run. */
export function initialState(): GraphicsState {
  return {
    ...perGlyphState(),
    minimumDistance: 64,
    autoFlip: true,
    cutIn: 68,
    singleWidth: 0,
    singleWidthCutIn: 0,
    deltaBase: 9,
    deltaShift: 3,
    instructControl: 0,
  };
}

/** What every program starts with, whatever the one before has left. */
export function perGlyphState(): Pick<
  GraphicsState,
  "projection" | "dual" | "freedom" | "rp" | "zp" | "loop" | "rounding"
> {
  return { projection: alongX, dual: alongX, freedom: alongX, rp: [0, 0, 0], zp: [1, 1, 1], loop: 1, rounding: "grid" };
}
