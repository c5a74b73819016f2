/** The part of opentype.js 2.0 that the renderer uses; the package has no types of its own. */
declare module "opentype.js/dist/opentype.mjs" {
  /** A contour's piece; the coordinates a type has are those of SVG. */
  interface Command {
    readonly type: "M" | "L" | "Q" | "C" | "Z";
    readonly x?: number;
    readonly y?: number;
    readonly x1?: number;
    readonly y1?: number;
    readonly x2?: number;
    readonly y2?: number;
  }

  /** A part of a composite glyph; it is moved by (dx, dy) or so that two points meet. */
  interface Component {
    readonly glyphIndex: number;
    readonly xScale: number;
    readonly scale01: number;
    readonly scale10: number;
    readonly yScale: number;
    readonly dx: number;
    readonly dy: number;
    readonly matchedPoints?: readonly number[];
  }

  interface Glyph {
    readonly index: number;
    readonly advanceWidth?: number;
    /** These are there once the path was asked for, in TrueType fonts. */
    readonly points?: readonly { x: number; y: number; onCurve: boolean; lastPointOfContour: boolean }[];
    readonly instructions?: readonly number[];
    readonly isComposite?: boolean;
    readonly components?: readonly Component[];
    /** The outline at `size` pixels an em, y down. */
    getPath(x: number, y: number, size: number): { commands: Command[] };
  }

  interface Font {
    readonly unitsPerEm: number;
    readonly ascender: number;
    readonly numGlyphs: number;
    /** Font units by "left,right", from the `kern` table. */
    readonly kerningPairs: Readonly<Record<string, number>>;
    readonly glyphs: { get(index: number): Glyph };
    charToGlyph(character: string): Glyph;
  }

  export function parse(buffer: ArrayBuffer, options?: { lowMemory?: boolean }): Font;
}
