/** A font: which glyph a character has, how wide it is, and its outline in pixels. */
import type { DrawFuncs, Font as ShapingFont } from "harfbuzzjs";
import { type Font as ParsedFont, parse } from "opentype.js/dist/opentype.mjs";
import { FontError } from "./error.ts";
import { Hinter, type ProgramTables } from "./hinting/hinter.ts";
import { HintingError } from "./hinting/state.ts";
import type { PathCommand } from "./raster.ts";
import { packFont } from "./sfnt.ts";

/** Sizes whose hinting is kept at once. */
const maxHinters = 8;

/** An open font. Lengths are in font units but for `outline`, which is in pixels. */
export class Font {
  readonly name: string;
  readonly unitsPerEm: number;
  /** From the baseline up to the line that text hangs from. */
  readonly ascender: number;
  readonly #parsed: ParsedFont;
  readonly #programs: ProgramTables | undefined;
  readonly #hinters = new Map<number, Hinter | undefined>();
  readonly #newShaping: () => ShapingFont;
  readonly #shaping: ShapingFont;
  readonly #noDrawing: DrawFuncs;
  readonly #glyphs = new Map<number, number>();

  private constructor(
    name: string,
    parsed: ParsedFont,
    programs: ProgramTables | undefined,
    newShaping: () => ShapingFont,
    noDrawing: DrawFuncs,
  ) {
    this.name = name;
    this.unitsPerEm = parsed.unitsPerEm;
    this.ascender = parsed.ascender;
    this.#parsed = parsed;
    this.#programs = programs;
    this.#newShaping = newShaping;
    this.#shaping = newShaping();
    this.#noDrawing = noDrawing;
  }

  /**
   * Opens the bytes of a .ttf or .otf file.
   *
   * @param name  what errors call it: its path
   * @throws {FontError} when they are not a font, or one that is damaged or hostile
   */
  static async open(bytes: Uint8Array, name: string): Promise<Font> {
    const packed = packFont(bytes, name);
    const harfbuzz = await import("harfbuzzjs");
    try {
      const parsed = parse(packed.file, { lowMemory: true });
      const face = new harfbuzz.Face(new harfbuzz.Blob(bytes));
      return new Font(name, parsed, packed.programs, () => new harfbuzz.Font(face), new harfbuzz.DrawFuncs());
    } catch (error) {
      throw new FontError(`${name}: ${reason(error)}`, { cause: error });
    }
  }

  /** The glyph of a character; 0 when the font has none. @throws {FontError} when its map names a glyph that is not there */
  glyphOf(codePoint: number): number {
    let glyph = this.#glyphs.get(codePoint);
    if (glyph === undefined) {
      try {
        glyph = this.#parsed.charToGlyph(String.fromCodePoint(codePoint)).index;
      } catch (error) {
        throw new FontError(`${this.name}: character ${codePoint} has a glyph that is not there`, { cause: error });
      }
      this.#glyphs.set(codePoint, glyph);
    }
    return glyph;
  }

  /** How far a glyph moves the pen. */
  advance(glyph: number): number {
    return this.#glyph(glyph).advanceWidth ?? 0;
  }

  /** What the `kern` table adds between two glyphs. */
  kerning(left: number, right: number): number {
    return this.#parsed.kerningPairs[`${left},${right}`] ?? 0;
  }

  /**
   * The contours of a glyph at `size` pixels an em, y down, the pen at 0, 0.
   *
   * A TrueType font fits them to the pixel grid by its own programs. Where those do what they must not, the outline is
   * the plain one, as if the glyph had none.
   *
   * @param size  a whole number
   * @throws {FontError} when the outline is damaged
   */
  outline(glyph: number, size: number): PathCommand[] {
    try {
      // HarfBuzz bounds the work of an outline, opentype.js does not: what it refuses is not drawn.
      if (!this.#shaping.drawGlyphOrFail(glyph, this.#noDrawing)) return [];
      return this.#hinted(glyph, size) ?? (this.#glyph(glyph).getPath(0, 0, size).commands as PathCommand[]);
    } catch (error) {
      throw new FontError(`${this.name}: glyph ${glyph}: ${reason(error)}`, { cause: error });
    }
  }

  #hinted(glyph: number, size: number): PathCommand[] | undefined {
    try {
      if (!this.#hinters.has(size)) {
        if (this.#hinters.size >= maxHinters) this.#hinters.clear();
        this.#hinters.set(size, undefined);
        if (this.#programs) this.#hinters.set(size, new Hinter(this.#parsed, this.#programs, size));
      }
      return this.#hinters.get(size)?.outline(this.#glyph(glyph));
    } catch (error) {
      if (error instanceof HintingError) return undefined;
      throw error;
    }
  }

  /** The font for HarfBuzz at `size` pixels an em; its lengths are in 64ths of a pixel. */
  shaping(size: number): ShapingFont {
    const scaled = this.#newShaping();
    scaled.setScale(size * 64, size * 64);
    return scaled;
  }

  #glyph(index: number) {
    if (!(index < this.#parsed.numGlyphs)) throw new FontError(`${this.name}: it has no glyph ${index}`);
    return this.#parsed.glyphs.get(index);
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
