/** Text as a picture: one line of any length, or wrapped into squares. */
import { UsageError } from "@rot/tensor";
import type { Font } from "./font.ts";
import { basicLayout } from "./layout/basic.ts";
import { type Line, scale, toPixels } from "./layout/line.ts";
import { type Bitmap, rasterize } from "./raster.ts";
import { wrap } from "./wrap.ts";

/** A color, 0 to 255 each. */
export type Rgb = readonly [red: number, green: number, blue: number];

/** A picture of text. */
export interface Strip {
  readonly width: number;
  readonly height: number;
  /** 1 where both colors are grays, else 3. */
  readonly channels: 1 | 3;
  /** [height, width, channels], 0 to 255. */
  readonly data: Uint8Array;
  /** How many characters no font had; each drew a box. */
  readonly missing: number;
}

/** How text is drawn. The defaults are the paper's. */
export interface RenderOptions {
  /** Fonts in order of preference; a character that the first lacks is drawn with the next. */
  readonly fonts: readonly Font[];
  /** Pixels an em, a whole number; 20. */
  readonly fontSize?: number;
  /** Height of a strip in pixels; 32. */
  readonly height?: number;
  /** White pixels left and right of the text, in squares on all sides; 4. */
  readonly padding?: number;
  /** Draw `<|begin_of_thought|>` before and `<|end_of_thought|>` after the text; true. */
  readonly thoughtMarkers?: boolean;
  /** In a strip, draw a line break as one space, or keep it, so that the lines after it are cut off below; "space". */
  readonly newlines?: "space" | "keep";
  /** Shape with HarfBuzz, or place one glyph a character on whole pixels; "shaped". */
  readonly engine?: "shaped" | "basic";
  /** Black. */
  readonly color?: Rgb;
  /** White. */
  readonly background?: Rgb;
  /** Side of a square picture in pixels; 1024. */
  readonly squareSize?: number;
  /** Pixels between the lines of a square picture; 8. */
  readonly lineSpacing?: number;
}

/** Draws texts with one set of options. */
export interface Renderer {
  /** One line, as wide as it needs. */
  strip(text: string): Strip;
  /** Wrapped at spaces into as many squares as it needs, at least one. */
  squares(text: string): Strip[];
  /** The width `strip` would have. */
  width(text: string): number;
}

/** A text may have this many UTF-16 units, and a picture this many pixels: beyond, memory is the limit. */
export const maxTextLength = 1_000_000;
export const maxPixels = 1 << 28;
const maxFontSize = 1024;
/** Pillow's distance between the descender of one line and the ascender of the next, kept for `newlines: "keep"`. */
const keptLineSpacing = 4;
const maxCachedPixels = 1 << 25;

/**
 * Makes a renderer.
 *
 * @throws {UsageError} when an option is out of range
 */
export async function createRenderer(options: RenderOptions): Promise<Renderer> {
  const settings = check(options);
  const { fonts, fontSize, padding } = settings;
  const layout =
    settings.engine === "basic"
      ? basicLayout(fonts, fontSize)
      : (await import("./layout/shaped.ts")).shapedLayout(fonts, fontSize);
  const bitmapOf = glyphCache(fontSize);
  const paint = painter(settings.color, settings.background);
  const ascent = Math.ceil(scale(fonts[0]!.ascender, fontSize, fonts[0]!.unitsPerEm) / 64);

  const linesOf = (text: string): Line[] => {
    const full = settings.thoughtMarkers ? withMarkers(bounded(text)) : bounded(text);
    const lines = settings.newlines === "space" ? [full.replace(/\r\n|\r|\n/g, " ")] : full.split("\n");
    return lines.map(layout);
  };
  const widthOf = (lines: readonly Line[]): number => extent(lines, bitmapOf) + 2 * padding;
  const draw = (lines: readonly Line[], width: number, height: number, top: number, pitch: number): Strip => {
    if (width * height > maxPixels) {
      throw new UsageError(
        `a picture of ${width} x ${height} pixels is too large (${maxPixels} at most): split the text`,
      );
    }
    const coverage = new Uint8Array(width * height);
    for (const [i, line] of lines.entries()) {
      for (const { font, glyph, x, y } of line.glyphs) {
        const bitmap = bitmapOf(font, glyph);
        const row = top + ascent + i * pitch - toPixels(y) + bitmap.top;
        compose(coverage, width, height, bitmap, padding + toPixels(x) + bitmap.left, row);
      }
    }
    const missing = lines.reduce((sum, line) => sum + line.missing, 0);
    return { width, height, missing, ...paint(coverage) };
  };

  return {
    width: (text) => widthOf(linesOf(text)),
    strip(text) {
      const lines = linesOf(text);
      const top = Math.floor((settings.height - fontSize) / 2);
      return draw(lines, widthOf(lines), settings.height, top, ascent + keptLineSpacing);
    },
    squares(text) {
      const side = settings.squareSize;
      const full = settings.thoughtMarkers ? withMarkers(bounded(text)) : bounded(text);
      const lines = wrap(full, side - 2 * padding, layout, (line) => extent([line], bitmapOf));
      const pitch = fontSize + settings.lineSpacing;
      const perSquare = Math.max(1, Math.floor((side - 2 * padding + settings.lineSpacing) / pitch));
      const pictures: Strip[] = [];
      for (let i = 0; i === 0 || i < lines.length; i += perSquare) {
        pictures.push(draw(lines.slice(i, i + perSquare), side, side, padding, pitch));
      }
      return pictures;
    },
  };
}

/** The text as the paper draws it: between its markers, two spaces from each. */
export function withMarkers(text: string): string {
  return `<|begin_of_thought|>  ${text}  <|end_of_thought|>`;
}

type Settings = Required<RenderOptions>;

function check(options: RenderOptions): Settings {
  const settings: Settings = {
    fonts: options.fonts,
    fontSize: options.fontSize ?? 20,
    height: options.height ?? 32,
    padding: options.padding ?? 4,
    thoughtMarkers: options.thoughtMarkers ?? true,
    newlines: options.newlines ?? "space",
    engine: options.engine ?? "shaped",
    color: options.color ?? [0, 0, 0],
    background: options.background ?? [255, 255, 255],
    squareSize: options.squareSize ?? 1024,
    lineSpacing: options.lineSpacing ?? 8,
  };
  const range = (
    name: "fontSize" | "height" | "padding" | "squareSize" | "lineSpacing",
    least: number,
    most: number,
  ) => {
    const value = settings[name];
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new UsageError(`${name} is ${value}; it is a whole number of pixels from ${least} to ${most}`);
    }
  };
  range("fontSize", 1, maxFontSize);
  range("height", 1, 4096);
  range("padding", 0, 4096);
  range("squareSize", 1, 16384);
  range("lineSpacing", 0, 4096);
  if (settings.fonts.length === 0) throw new UsageError("fonts is empty; give at least one, such as DejaVu Sans");
  if (settings.squareSize <= 2 * settings.padding) {
    throw new UsageError(
      `a padding of ${settings.padding} leaves nothing of a square of ${settings.squareSize} pixels`,
    );
  }
  for (const name of ["color", "background"] as const) {
    if (settings[name].some((value) => !Number.isInteger(value) || value < 0 || value > 255)) {
      throw new UsageError(`${name} is ${settings[name].join(", ")}; its values are whole numbers from 0 to 255`);
    }
  }
  return settings;
}

function bounded(text: string): string {
  if (text.length > maxTextLength) {
    throw new UsageError(`a text of ${text.length} characters; ${maxTextLength} are drawn at most: split it`);
  }
  return text;
}

type BitmapOf = (font: Font, glyph: number) => Bitmap;

function glyphCache(fontSize: number): BitmapOf {
  const cache = new Map<Font, Map<number, Bitmap>>();
  let pixels = 0;
  return (font, glyph) => {
    let ofFont = cache.get(font);
    if (!ofFont) cache.set(font, (ofFont = new Map()));
    let bitmap = ofFont.get(glyph);
    if (!bitmap) {
      bitmap = rasterize(font.outline(glyph, fontSize));
      pixels += bitmap.coverage.length;
      if (pixels > maxCachedPixels) {
        cache.clear();
        cache.set(font, (ofFont = new Map()));
        pixels = bitmap.coverage.length;
      }
      ofFont.set(glyph, bitmap);
    }
    return bitmap;
  };
}

/** Pixels from the leftmost ink (or the pen's start) to the rightmost (or the pen's end), over all lines. */
function extent(lines: readonly Line[], bitmapOf: BitmapOf): number {
  let [left, right] = [0, 0];
  for (const line of lines) {
    right = Math.max(right, toPixels(line.advance));
    for (const { font, glyph, x } of line.glyphs) {
      const bitmap = bitmapOf(font, glyph);
      if (bitmap.width === 0) continue;
      const start = toPixels(x) + bitmap.left;
      left = Math.min(left, start);
      right = Math.max(right, start + bitmap.width);
    }
  }
  return right - left;
}

/** Lays a bitmap over the picture: a + b · (255 − a) / 255; what falls outside is cut. */
function compose(to: Uint8Array, width: number, height: number, from: Bitmap, left: number, top: number): void {
  const [firstRow, lastRow] = [Math.max(0, -top), Math.min(from.height, height - top)];
  const [first, last] = [Math.max(0, -left), Math.min(from.width, width - left)];
  for (let row = firstRow; row < lastRow; row++) {
    const source = row * from.width;
    const target = (top + row) * width + left;
    for (let x = first; x < last; x++) {
      const ink = from.coverage[source + x]!;
      const there = to[target + x]!;
      to[target + x] = there === 0 ? ink : ink + Math.round((there * (255 - ink)) / 255);
    }
  }
}

/** Mixes two colors by coverage, rounded; the coverage is used up. */
function painter(color: Rgb, background: Rgb): (coverage: Uint8Array) => Pick<Strip, "channels" | "data"> {
  const isGray = ([red, green, blue]: Rgb): boolean => red === green && green === blue;
  const [red, green, blue] = [0, 1, 2].map((channel) =>
    Uint8Array.from({ length: 256 }, (_, ink) =>
      Math.round((color[channel]! * ink + background[channel]! * (255 - ink)) / 255),
    ),
  ) as [Uint8Array, Uint8Array, Uint8Array];
  if (isGray(color) && isGray(background)) {
    const isBlackOnWhite = color[0] === 0 && background[0] === 255;
    return (coverage) => {
      if (isBlackOnWhite) invert(coverage);
      else for (let i = 0; i < coverage.length; i++) coverage[i] = red[coverage[i]!]!;
      return { channels: 1, data: coverage };
    };
  }
  return (coverage) => {
    const data = new Uint8Array(3 * coverage.length);
    for (const [i, ink] of coverage.entries()) {
      data[3 * i] = red[ink]!;
      data[3 * i + 1] = green[ink]!;
      data[3 * i + 2] = blue[ink]!;
    }
    return { channels: 3, data };
  };
}

/** 255 minus every value, four at a time: most of the time of a strip would go here. */
function invert(values: Uint8Array): void {
  const words = new Uint32Array(values.buffer, 0, values.length >> 2);
  for (let i = 0; i < words.length; i++) words[i] = ~words[i]!;
  for (let i = 4 * words.length; i < values.length; i++) values[i] = 255 - values[i]!;
}
