/** The layout by HarfBuzz: kerning, ligatures, marks, scripts that join, and both directions. */
import { Buffer, Direction, type Font as ShapingFont, shape } from "harfbuzzjs";
import { FontError } from "../error.ts";
import type { Font } from "../font.ts";
import { bidiLevels, visualRuns } from "./bidi.ts";
import { choose, type Layout, type Line, type PlacedGlyph } from "./line.ts";
import { scriptOf } from "./script.ts";

/** Text in one font, one script and one direction. */
interface Run {
  readonly start: number;
  readonly end: number;
  readonly font: Font;
  readonly script: string | undefined;
}

/**
 * Lays out text as Pillow does with libraqm: in fractions of a pixel, in the order it is read.
 *
 * @param fonts  in order of preference
 * @param size   pixels an em
 */
export function shapedLayout(fonts: readonly Font[], size: number): Layout {
  const scaled = new Map<Font, ShapingFont>(fonts.map((font) => [font, font.shaping(size)]));
  const buffer = new Buffer();
  return (text): Line => {
    const codePoints = Array.from(text, (character) => character.codePointAt(0)!);
    const glyphs: PlacedGlyph[] = [];
    let [pen, missing] = [0, 0];
    for (const { start, end, level } of visualRuns(bidiLevels(codePoints))) {
      const leftwards = level % 2 === 1;
      const runs = splitRuns(codePoints, start, end, fonts);
      for (const run of leftwards ? runs.reverse() : runs) {
        const clusters = new Set<number>();
        for (const one of shapeRun(buffer, scaled.get(run.font)!, codePoints, run, leftwards)) {
          glyphs.push({ font: run.font, glyph: one.glyph, x: pen + one.x, y: one.y });
          pen += one.advance;
          if (one.glyph === 0) clusters.add(one.cluster);
        }
        missing += clusters.size;
      }
    }
    return { glyphs, advance: pen, missing };
  };
}

/** Cuts [start, end) where the font or the script changes. What scripts share stays with the text before it. */
function splitRuns(codePoints: readonly number[], start: number, end: number, fonts: readonly Font[]): Run[] {
  const runs: Run[] = [];
  let current: { start: number; font: Font; script: string | undefined } | undefined;
  for (let i = start; i < end; i++) {
    const codePoint = codePoints[i]!;
    const script = scriptOf(codePoint);
    const font = current && joins(codePoint, current.font) ? current.font : choose(fonts, codePoint).font;
    if (!current) {
      current = { start: i, font, script };
    } else if (font !== current.font || (script && current.script && script !== current.script)) {
      runs.push({ ...current, end: i });
      current = { start: i, font, script: script ?? current.script };
    } else {
      current.script ??= script;
    }
  }
  if (current) runs.push({ ...current, end });
  return runs;
}

/** Marks, joiners and selectors belong to the character before: they stay in its font if it has them or they need no glyph. */
function joins(codePoint: number, font: Font): boolean {
  if (codePoint < 0x300) return false;
  if (/\p{Default_Ignorable_Code_Point}/u.test(String.fromCodePoint(codePoint))) return true;
  return /\p{M}/u.test(String.fromCodePoint(codePoint)) && font.glyphOf(codePoint) !== 0;
}

function* shapeRun(
  buffer: Buffer,
  font: ShapingFont,
  codePoints: readonly number[],
  { start, end, script }: Run,
  leftwards: boolean,
): Generator<{ glyph: number; cluster: number; x: number; y: number; advance: number }> {
  buffer.reset();
  buffer.addCodePoints(codePoints.slice(start, end));
  buffer.setDirection(leftwards ? Direction.RTL : Direction.LTR);
  buffer.setScript(script ?? "Zyyy");
  buffer.setLanguage("und");
  try {
    shape(font, buffer);
  } catch (error) {
    throw new FontError(`shaping ${end - start} characters failed: ${String(error)}`, { cause: error });
  }
  const positions = buffer.getGlyphPositions();
  for (const [i, { codepoint: glyph, cluster }] of buffer.getGlyphInfos().entries()) {
    const { xAdvance, xOffset, yOffset } = positions[i]!;
    yield { glyph, cluster, x: xOffset, y: yOffset, advance: xAdvance };
  }
}
