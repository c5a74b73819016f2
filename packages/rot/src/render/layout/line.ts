/** What a layout makes of one line of text. */
import type { Font } from "../font.ts";

/** A glyph of a line. Positions are in 64ths of a pixel, from the pen at the start of the line, y up. */
export interface PlacedGlyph {
  readonly font: Font;
  readonly glyph: number;
  readonly x: number;
  readonly y: number;
}

/** A line of glyphs, from left to right. */
export interface Line {
  readonly glyphs: readonly PlacedGlyph[];
  /** How far the whole line moves the pen, in 64ths of a pixel. */
  readonly advance: number;
  /** How many characters no font has; each draws the box of glyph 0 of the first. */
  readonly missing: number;
}

/** Lays out one line of text; it holds no line breaks that mean anything. */
export type Layout = (text: string) => Line;

/** 64ths of a pixel to whole ones, halves up: FreeType's rounding of positions. */
export function toPixels(position: number): number {
  return (position + 32) >> 6;
}

/** Font units to 64ths of a pixel, halves away from zero, as FreeType scales. */
export function scale(units: number, size: number, unitsPerEm: number): number {
  return Math.sign(units) * Math.floor((Math.abs(units) * size * 64) / unitsPerEm + 0.5);
}

/** The first font that has the character, and its glyph; glyph 0 of the first font when none has. */
export function choose(fonts: readonly Font[], codePoint: number): { font: Font; glyph: number } {
  for (const font of fonts) {
    const glyph = font.glyphOf(codePoint);
    if (glyph !== 0) return { font, glyph };
  }
  return { font: fonts[0]!, glyph: 0 };
}
