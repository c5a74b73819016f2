/** The reference's pictures and first resize, byte by byte; and what the tower is given. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { loadImageProcessor } from "@rot/models/node";
import { PNG } from "pngjs";
import { expect, test } from "vitest";
import { drawing } from "../../test/tools/golden-render.ts";
import { cellsOf } from "./encode.ts";
import { createRenderer } from "./index.ts";
import { dejaVuSans } from "./node/index.ts";
import type { Strip } from "./strip.ts";
import { exactPixelValues, referencePixelValues, referenceResize } from "./vision.ts";

interface GoldenSample {
  readonly cot: string;
  readonly image_wh: readonly [number, number];
  readonly resized28_wh: readonly [number, number];
  readonly grid_thw: readonly (readonly number[])[];
}

const own = fileURLToPath(new URL("../../test/golden/render-rot", import.meta.url));
const folder = process.env["ROT_GOLDEN_DIR"] ? resolve(process.env["ROT_GOLDEN_DIR"], "rot") : own;
const { samples } = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")) as { samples: GoldenSample[] };

/** The checkpoint that the strips are for: its sizes decide the grids. */
const base = process.env["ROT_GOLDEN_DIR"]
  ? resolve(process.env["ROT_GOLDEN_DIR"], "qwen3vl_tiny")
  : fileURLToPath(new URL("../../../models/test/golden/qwen3vl_tiny", import.meta.url));
const processor = await loadImageProcessor(base);
const { config } = processor;
const { patchSize: side, mergeSize, imageMean, imageStd } = config;
const cell = side * mergeSize;

function read(file: string): Strip {
  const { width, height, data } = PNG.sync.read(readFileSync(join(folder, "images", file)));
  return { width, height, channels: 3, data: Uint8Array.from(data.filter((_, i) => i % 4 !== 3)), missing: 0 };
}

const saved = samples
  .map((sample, i) => ({ i, sample }))
  .filter(({ i }) => existsSync(join(folder, "images", `${i}_rendered.png`)));

test("there are samples", () => expect(saved.length).toBeGreaterThan(0));

test.for(saved)(
  "sample $i: our picture has the size and nearly the pixels of the reference's",
  async ({ i, sample }) => {
    const renderer = await createRenderer({
      fonts: [await dejaVuSans()],
      ...drawing,
      engine: "basic",
      newlines: "keep",
    });
    const ours = renderer.strip(sample.cot);
    const theirs = read(`${i}_rendered.png`);
    expect([ours.width, ours.height]).toEqual(sample.image_wh);
    const difference = ours.data.reduce((sum, value, at) => sum + Math.abs(value - theirs.data[3 * at]!), 0);
    expect(difference / ours.data.length).toBeLessThan(1);
  },
);

test.for(saved)("sample $i: the first resize is the reference's byte by byte", ({ i, sample }) => {
  const resized = referenceResize(read(`${i}_rendered.png`));
  expect([resized.width, resized.height]).toEqual(sample.resized28_wh);
  expect(Buffer.compare(resized.data, read(`${i}_resized28.png`).data)).toBe(0);
});

test.for(saved)("sample $i: both resizes give the reference's grid, exact pixels one row of cells", ({ i, sample }) => {
  const strip = read(`${i}_rendered.png`);
  expect(referencePixelValues(strip, processor).imageGridThw).toEqual(sample.grid_thw);
  const exact = exactPixelValues(strip, config);
  const { columns, rows } = cellsOf(strip, cell);
  expect(Math.abs(columns - strip.width / cell)).toBeLessThanOrEqual(0.5);
  expect(exact.imageGridThw).toEqual([[1, rows * mergeSize, columns * mergeSize]]);
  // The second patch stands on the right of the first, whether blocks of patches are merged or not.
  const patch = exact.pixelValues.subarray(exact.patchLength, exact.patchLength + side ** 2);
  for (const [p, value] of patch.entries()) {
    const drawn = strip.data[3 * (Math.floor(p / side) * strip.width + side + (p % side))] ?? 255;
    expect(Math.abs(value - (drawn / 255 - imageMean[0]!) / imageStd[0]!)).toBeLessThan(1e-6);
  }
});

test("exact pixels of a long strip come in pieces", async () => {
  const renderer = await createRenderer({ fonts: [await dejaVuSans()] });
  const strip = renderer.strip("a long chain of thought ".repeat(60));
  const { imageGridThw } = exactPixelValues(strip, { ...config, patchSize: 16, mergeSize: 2 });
  expect(imageGridThw.length).toBeGreaterThan(1);
  expect(imageGridThw[0]).toEqual([1, 2, 400]);
});
