/** Our pictures against Pillow's: sizes in every case, pixels over the ink. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { drawing, renderFolder } from "../test/tools/golden-render.ts";
import { createRenderer, type Strip } from "./render/index.ts";
import { basicLayout } from "./render/layout/basic.ts";
import { rasterize } from "./render/raster.ts";
import { dejaVuSans } from "./render/node/index.ts";

interface GoldenCase {
  readonly file: string;
  readonly text: string;
  readonly layout: "basic" | "raqm";
  readonly add_thought_tokens: boolean;
  readonly image_width: number;
  readonly image_height: number;
}

interface GoldenGlyphs {
  readonly font_size: number;
  readonly ascent: number;
  readonly atlas: string;
  readonly glyphs: readonly {
    readonly char: string;
    readonly codepoint: number;
    readonly advance: number;
    readonly atlas_x: number;
    readonly width: number;
    readonly height: number;
    readonly left: number;
    readonly top: number;
  }[];
}

const cases = JSON.parse(readFileSync(join(renderFolder, "cases.json"), "utf8")) as GoldenCase[];

/** Bound of the mean absolute difference over the ink, of 255. Without hinting it would be about 14. */
const bound = 1;

/** The first channel of a PNG. */
function gray(file: string): { width: number; height: number; data: Uint8Array } {
  const { width, height: rows, data } = PNG.sync.read(readFileSync(join(renderFolder, file)));
  return { width, height: rows, data: Uint8Array.from({ length: width * rows }, (_, i) => data[4 * i]!) };
}

async function draw({ text, layout, add_thought_tokens: thoughtMarkers }: GoldenCase): Promise<Strip> {
  const engine = layout === "basic" ? "basic" : "shaped";
  const fonts = [await dejaVuSans()];
  const renderer = await createRenderer({ fonts, ...drawing, newlines: "keep", engine, thoughtMarkers });
  return renderer.strip(text);
}

/** The mean absolute difference over the smallest box that holds the ink of both; 0 where there is none. */
function difference(a: Strip, b: ReturnType<typeof gray>): number {
  let [left, right, top, bottom, sum] = [Infinity, -1, Infinity, -1, 0];
  for (let i = 0; i < b.data.length; i++) {
    if (a.data[i] === 255 && b.data[i] === 255) continue;
    const [x, y] = [i % b.width, Math.floor(i / b.width)];
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    sum += Math.abs(a.data[i]! - b.data[i]!);
  }
  return right < 0 ? 0 : sum / ((right - left + 1) * (bottom - top + 1));
}

test.for(cases)("$file has Pillow's size", async (golden) => {
  const { width, height: rows } = await draw(golden);
  expect([width, rows]).toEqual([golden.image_width, golden.image_height]);
});

describe.each(["raqm", "basic"] as const)("%s layout", (layout) => {
  const some = cases.filter((one) => one.layout === layout);

  test.for(some)("$file has Pillow's pixels, nearly", async (golden) => {
    expect(difference(await draw(golden), gray(golden.file))).toBeLessThanOrEqual(bound);
  });
});

const glyphsFile = join(renderFolder, "glyphs.json");
test.runIf(existsSync(glyphsFile))("single glyphs have FreeType's advances, and nearly its bitmaps", async () => {
  const golden = JSON.parse(readFileSync(glyphsFile, "utf8")) as GoldenGlyphs;
  const atlas = gray(golden.atlas);
  const font = await dejaVuSans();
  const layout = basicLayout([font], golden.font_size);
  let [sum, pixels] = [0, 0];
  for (const { char, codepoint, advance, ...theirs } of golden.glyphs) {
    expect(layout(char).advance / 64, char).toBe(advance);
    if (theirs.width === 0) continue;
    const ours = rasterize(font.outline(font.glyphOf(codepoint), golden.font_size));
    const top = ours.top + golden.ascent;
    const [left, right] = [
      Math.min(ours.left, theirs.left),
      Math.max(ours.left + ours.width, theirs.left + theirs.width),
    ];
    const [high, low] = [Math.min(top, theirs.top), Math.max(top + ours.height, theirs.top + theirs.height)];
    const at = (data: Uint8Array, stride: number, x: number, y: number, width: number, rows: number): number =>
      x >= 0 && x < width && y >= 0 && y < rows ? data[y * stride + x]! : 0;
    for (let y = high; y < low; y++) {
      for (let x = left; x < right; x++) {
        const mine = at(ours.coverage, ours.width, x - ours.left, y - top, ours.width, ours.height);
        const shifted = atlas.data.subarray(theirs.atlas_x);
        sum += Math.abs(mine - at(shifted, atlas.width, x - theirs.left, y - theirs.top, theirs.width, theirs.height));
      }
    }
    pixels += (right - left) * (low - high);
  }
  expect(sum / pixels).toBeLessThanOrEqual(bound);
});
