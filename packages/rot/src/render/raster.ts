/** From outlines to coverage: the exact area of the outline in every pixel, non-zero winding, 256 levels. */
import { FontError } from "./error.ts";

/** One piece of an outline in pixels, y down; the names are those of opentype.js and of SVG. */
export type PathCommand =
  | ({ readonly type: "M" } & Point)
  | ({ readonly type: "L" } & Point)
  | ({ readonly type: "Q"; readonly x1: number; readonly y1: number } & Point)
  | ({
      readonly type: "C";
      readonly x1: number;
      readonly y1: number;
      readonly x2: number;
      readonly y2: number;
    } & Point)
  | { readonly type: "Z" };

interface Point {
  readonly x: number;
  readonly y: number;
}

/** The ink of one glyph: `coverage` is [height, width], 0 to 255, its first pixel `left`, `top` away from the pen (y down). */
export interface Bitmap {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly coverage: Uint8Array;
}

/** A glyph may cover this many pixels at most; a font that asks for more is damaged or hostile. */
export const maxGlyphPixels = 1 << 22;

/** A chord may leave its curve by a sixteenth of a pixel: FreeType's choice, so that its pictures and ours agree. */
const chordTolerance = 1 / 16;
const maxSegments = 256;

const empty: Bitmap = { left: 0, top: 0, width: 0, height: 0, coverage: new Uint8Array(0) };

/**
 * Draws an outline.
 *
 * Every line adds the signed area to its right to an accumulation buffer [height, width + 1]; a running sum over a row
 * is the winding number, averaged over each pixel. Where contours overlap it goes beyond one and is cut.
 *
 * @param path  contours in pixels, y down, relative to the pen; an open one is closed
 * @throws {FontError} when a coordinate is not finite or the box holds more than `maxGlyphPixels`
 */
export function rasterize(path: readonly PathCommand[]): Bitmap {
  const lines = flatten(path);
  if (lines.length === 0) return empty;
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < lines.length; i += 2) {
    const [x, y] = [lines[i]!, lines[i + 1]!];
    if (!Number.isFinite(x) || !Number.isFinite(y))
      throw new FontError("an outline has a coordinate that is no number");
    x0 = Math.min(x0, x);
    x1 = Math.max(x1, x);
    y0 = Math.min(y0, y);
    y1 = Math.max(y1, y);
  }
  const [left, top] = [Math.floor(x0), Math.floor(y0)];
  const [width, height] = [Math.ceil(x1) - left, Math.ceil(y1) - top];
  if (width * height > maxGlyphPixels) {
    throw new FontError(`a glyph covers ${width} x ${height} pixels; at most ${maxGlyphPixels} are drawn`);
  }
  if (width === 0 || height === 0) return empty;
  const area = new Float64Array(height * (width + 1));
  for (let i = 0; i < lines.length; i += 4) {
    addLine(area, width + 1, lines[i]! - left, lines[i + 1]! - top, lines[i + 2]! - left, lines[i + 3]! - top);
  }
  const coverage = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    let winding = 0;
    for (let x = 0; x < width; x++) {
      winding += area[row * (width + 1) + x]!;
      coverage[row * width + x] = Math.min(255, Math.floor(Math.abs(winding) * 256 + 1e-6));
    }
  }
  return { left, top, width, height, coverage };
}

/** The lines of a path as x0, y0, x1, y1 after each other; horizontal ones, which enclose nothing, are kept for the box. */
function flatten(path: readonly PathCommand[]): number[] {
  const lines: number[] = [];
  let [x, y, startX, startY] = [0, 0, 0, 0];
  const line = (toX: number, toY: number): void => {
    lines.push(x, y, toX, toY);
    x = toX;
    y = toY;
  };
  for (const command of path) {
    if (command.type === "M" || command.type === "Z") {
      if (x !== startX || y !== startY) line(startX, startY);
      if (command.type === "M") {
        x = startX = command.x;
        y = startY = command.y;
      }
    } else if (command.type === "L") {
      line(command.x, command.y);
    } else {
      curve(command, x, y, line);
    }
  }
  if (x !== startX || y !== startY) line(startX, startY);
  return lines;
}

/** Cuts a curve into 2^n equal steps of its parameter. */
function curve(
  c: Extract<PathCommand, { type: "Q" | "C" }>,
  x: number,
  y: number,
  line: (x: number, y: number) => void,
): void {
  // The largest second difference of the control points bounds the distance of chord and curve: d/4 (quadratic), 3d/4 (cubic).
  const bend =
    c.type === "Q"
      ? Math.max(Math.abs(x - 2 * c.x1 + c.x), Math.abs(y - 2 * c.y1 + c.y)) / 4
      : (3 / 4) *
        Math.max(
          Math.abs(x - 2 * c.x1 + c.x2),
          Math.abs(y - 2 * c.y1 + c.y2),
          Math.abs(c.x1 - 2 * c.x2 + c.x),
          Math.abs(c.y1 - 2 * c.y2 + c.y),
        );
  let segments = 1;
  for (let left = bend; left > chordTolerance && segments < maxSegments; left /= 4) segments *= 2;
  for (let i = 1; i < segments; i++) {
    const t = i / segments;
    const s = 1 - t;
    if (c.type === "Q") {
      line(s * s * x + 2 * s * t * c.x1 + t * t * c.x, s * s * y + 2 * s * t * c.y1 + t * t * c.y);
    } else {
      const [a, b, d, e] = [s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t];
      line(a * x + b * c.x1 + d * c.x2 + e * c.x, a * y + b * c.y1 + d * c.y2 + e * c.y);
    }
  }
  line(c.x, c.y);
}

/** Adds one line: in every row it crosses, the area between it and the right edge of each pixel, as differences along x. */
function addLine(area: Float64Array, stride: number, x0: number, y0: number, x1: number, y1: number): void {
  if (y0 === y1) return;
  const sign = y0 < y1 ? 1 : -1;
  const [topX, topY, bottomX, bottomY] = y0 < y1 ? [x0, y0, x1, y1] : [x1, y1, x0, y0];
  const slope = (bottomX - topX) / (bottomY - topY);
  const low = Math.min(x0, x1);
  const high = Math.max(x0, x1);
  // Rounding must not push a crossing out of the line's own box.
  const at = (y: number): number => Math.min(high, Math.max(low, topX + (y - topY) * slope));
  const lastRow = Math.ceil(bottomY);
  for (let row = Math.floor(topY); row < lastRow; row++) {
    const from = Math.max(topY, row);
    const to = Math.min(bottomY, row + 1);
    const [a, b] = [at(from), at(to)];
    addSpan(area, row * stride, Math.min(a, b), Math.max(a, b), sign * (to - from));
  }
}

/** A piece of line within one row from x = `a` to x = `b`, of signed height `h`. */
function addSpan(area: Float64Array, row: number, a: number, b: number, h: number): void {
  const first = Math.floor(a);
  const last = Math.max(first + 1, Math.ceil(b));
  if (last === first + 1) {
    const right = first + 1 - (a + b) / 2; // the mean distance to the right edge
    add(area, row + first, h * right);
    add(area, row + first + 1, h * (1 - right));
    return;
  }
  const perPixel = h / (b - a);
  let before = 0;
  for (let x = first; x < last; x++) {
    const from = Math.max(a, x);
    const to = Math.min(b, x + 1);
    // What lies left of the pixel covers all of it, what lies in it the part to its right.
    const covered = perPixel * (from - a + (to - from) * (x + 1 - (from + to) / 2));
    add(area, row + x, covered - before);
    before = covered;
  }
  add(area, row + last, h - before);
}

function add(area: Float64Array, index: number, value: number): void {
  area[index] = area[index]! + value;
}
