/** Fits the outlines of a TrueType font to the pixel grid, along y. */
import type { Font, Glyph } from "opentype.js/dist/opentype.mjs";
import type { PathCommand } from "../raster.ts";
import { round } from "./fixed.ts";
import { Interpreter, type Memory } from "./interpreter.ts";
import { type GraphicsState, HintingError, initialState, perGlyphState, type Zone, zone } from "./state.ts";

/** Tables of the font that programs need. */
export interface ProgramTables {
  readonly fpgm: Uint8Array;
  readonly prep: Uint8Array;
  /** Control values in font units. */
  readonly cvt: Int16Array;
  readonly maxStorage: number;
  readonly maxTwilightPoints: number;
}

const maxDepth = 8;
const maxPoints = 20_000;

/** The programs of a font at one size. */
export class Hinter {
  readonly #font: Font;
  readonly #memory: Memory;
  readonly #state: GraphicsState;
  readonly #scale: number;

  /**
   * Runs the programs of the font and of the size.
   *
   * @param ppem  pixels an em
   * @throws {HintingError} when they do what they must not
   */
  constructor(font: Font, tables: ProgramTables, ppem: number) {
    this.#font = font;
    this.#scale = (ppem * 64) / font.unitsPerEm;
    this.#memory = {
      functions: new Map(),
      storage: new Int32Array(tables.maxStorage),
      cvt: Float64Array.from(tables.cvt, (value) => round(value * this.#scale)),
      twilight: zone(tables.maxTwilightPoints + 4),
      ppem,
      unitsPerEm: font.unitsPerEm,
    };
    this.#state = initialState();
    for (const program of [tables.fpgm, tables.prep]) {
      Object.assign(this.#state, perGlyphState());
      new Interpreter(program, this.#memory, this.#state, zone(0), false).run();
    }
  }

  /** The outline of a glyph in pixels, y down. @throws {HintingError} */
  outline(glyph: Glyph): PathCommand[] {
    return contours(this.#fit(glyph, 0));
  }

  #fit(glyph: Glyph, depth: number): Zone {
    if (depth > maxDepth) throw new HintingError("composites too deep");
    glyph.getPath(0, 0, 1); // makes opentype.js read the glyph
    const points = glyph.isComposite ? this.#compose(glyph, depth) : simple(glyph);
    const { count } = points;
    if (!glyph.isComposite) {
      for (let i = 0; i < count; i++) {
        points.x[i] = round(points.unscaledX[i]! * this.#scale);
        points.y[i] = round(points.unscaledY[i]! * this.#scale);
      }
    }
    points.originalX.set(points.x);
    points.originalY.set(points.y);
    const advance = count - phantoms + 1;
    points.x[advance] = round(points.x[advance]! / 64) * 64;
    const code = Uint8Array.from(glyph.instructions ?? []);
    if (code.length === 0 || this.#state.instructControl & 1) return points;
    const base = this.#state.instructControl & 2 ? initialState() : this.#state;
    // What a glyph's program sets and stores must not reach the next glyph.
    const memory = { ...this.#memory, storage: this.#memory.storage.slice(), cvt: this.#memory.cvt.slice() };
    new Interpreter(code, memory, { ...base, ...perGlyphState() }, points, glyph.isComposite === true).run();
    return points;
  }

  #compose(glyph: Glyph, depth: number): Zone {
    const parts: { zone: Zone; count: number }[] = [];
    let count = 0;
    for (const component of glyph.components ?? []) {
      const part = this.#fit(this.#font.glyphs.get(component.glyphIndex), depth + 1);
      const own = part.count - phantoms;
      const { xScale, scale01, scale10, yScale, matchedPoints } = component;
      for (let i = 0; i < own; i++) {
        const [x, y] = [part.x[i]!, part.y[i]!];
        part.x[i] = round(x * xScale + y * scale10);
        part.y[i] = round(x * scale01 + y * yScale);
      }
      let [dx, dy] = [round(component.dx * this.#scale), round(round(component.dy * this.#scale) / 64) * 64];
      if (matchedPoints) {
        const [anchorX, anchorY] = pointOf(parts, matchedPoints[0]!);
        [dx, dy] = [anchorX - part.x[matchedPoints[1]!]!, anchorY - part.y[matchedPoints[1]!]!];
      }
      for (let i = 0; i < own; i++) {
        part.x[i]! += dx;
        part.y[i]! += dy;
      }
      parts.push({ zone: part, count: own });
      count += own;
      if (count > maxPoints) throw new HintingError(`more than ${maxPoints} points`);
    }
    const ends: number[] = [];
    const whole = zone(count + phantoms, ends);
    let at = 0;
    for (const { zone: part, count: own } of parts) {
      whole.x.set(part.x.subarray(0, own), at);
      whole.y.set(part.y.subarray(0, own), at);
      whole.onCurve.set(part.onCurve.subarray(0, own), at);
      for (const end of part.ends) ends.push(end + at);
      at += own;
    }
    whole.x[count + 1] = round((glyph.advanceWidth ?? 0) * this.#scale);
    whole.unscaledX.set(whole.x);
    whole.unscaledY.set(whole.y);
    return whole;
  }
}

/** After its own points a glyph has four more: its origin, its advance, and the same for vertical text. */
const phantoms = 4;

function simple(glyph: Glyph): Zone {
  const points = glyph.points ?? [];
  const ends: number[] = [];
  const result = zone(points.length + phantoms, ends);
  for (const [i, { x, y, onCurve, lastPointOfContour }] of points.entries()) {
    result.unscaledX[i] = x;
    result.unscaledY[i] = y;
    result.onCurve[i] = onCurve ? 1 : 0;
    if (lastPointOfContour) ends.push(i);
  }
  result.unscaledX[points.length + 1] = glyph.advanceWidth ?? 0;
  return result;
}

function pointOf(parts: readonly { zone: Zone; count: number }[], index: number): [x: number, y: number] {
  let at = index;
  for (const { zone: part, count } of parts) {
    if (at < count) return [part.x[at]!, part.y[at]!];
    at -= count;
  }
  throw new HintingError(`a component is placed at point ${index}, which is not there`);
}

/** The quadratic curves of a zone; between two points off the curve lies one on it. */
function contours({ x, y, onCurve, ends }: Zone): PathCommand[] {
  const path: PathCommand[] = [];
  let start = 0;
  for (const end of ends) {
    const count = end - start + 1;
    const at = (i: number) => {
      const point = start + ((i + count) % count);
      return { x: x[point]! / 64, y: -y[point]! / 64, on: onCurve[point] === 1 };
    };
    const middle = (a: { x: number; y: number }, b: { x: number; y: number }) => ({
      x: (a.x + b.x) / 2,
      y: (a.y + b.y) / 2,
    });
    const [first, last] = [at(0), at(-1)];
    const begin = first.on ? first : last.on ? last : middle(first, last);
    path.push({ type: "M", x: begin.x, y: begin.y });
    for (let i = 0; i < count; i++) {
      const [point, next] = [at(i), at(i + 1)];
      if (point.on) {
        path.push({ type: "L", x: point.x, y: point.y });
      } else {
        const to = next.on ? next : middle(point, next);
        path.push({ type: "Q", x1: point.x, y1: point.y, x: to.x, y: to.y });
      }
    }
    path.push({ type: "Z" });
    start = end + 1;
  }
  return path;
}
