/** The layout without shaping: one character, one glyph, whole pixels. It is Pillow's when it lacks libraqm. */
import type { Font } from "../font.ts";
import { choose, type Layout, type PlacedGlyph, scale, toPixels } from "./line.ts";

/**
 * Lays out text from left to right, in the order it is stored.
 *
 * Advances are hinted: rounded to whole pixels. The kern of a pair is rounded to whole pixels too, and then moves the
 * pen by as many 64ths of a pixel: a slip in Pillow that we keep, as its only effect is on the last rounding.
 *
 * @param fonts  in order of preference
 * @param size   pixels an em
 */
export function basicLayout(fonts: readonly Font[], size: number): Layout {
  return (text) => {
    const glyphs: PlacedGlyph[] = [];
    let [pen, missing] = [0, 0];
    let before: PlacedGlyph | undefined;
    for (const character of text) {
      const { font, glyph } = choose(fonts, character.codePointAt(0)!);
      if (glyph === 0) missing++;
      if (before && before.font === font) pen += kerning(font, before.glyph, glyph, size);
      before = { font, glyph, x: pen, y: 0 };
      glyphs.push(before);
      pen += 64 * toPixels(scale(font.advance(glyph), size, font.unitsPerEm));
    }
    return { glyphs, advance: pen, missing };
  };
}

/** FreeType makes kerning smaller below 25 pixels an em, where rounding would make it too strong. */
const fullKerningSize = 25;

function kerning(font: Font, left: number, right: number, size: number): number {
  const full = scale(font.kerning(left, right), size, font.unitsPerEm);
  const milder =
    size < fullKerningSize ? Math.sign(full) * Math.round((Math.abs(full) * size) / fullKerningSize) : full;
  return toPixels(milder);
}
