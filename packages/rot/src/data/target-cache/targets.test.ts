import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImageProcessor, presets, randomModel, type VisionLanguageModel } from "@rot/models";
import { tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { createRenderer, type Strip } from "../../render/strip.ts";
import { encodings, latentGrid, pixelValuesOf } from "../../render/vision.ts";
import { targetKey, towerKey } from "./key.ts";
import { targetCache } from "./node/target-cache.ts";
import { computeTargets } from "./targets.ts";

const processor = new ImageProcessor({
  minPixels: 65_536,
  maxPixels: 16_777_216,
  patchSize: 16,
  temporalPatchSize: 2,
  mergeSize: 2,
  imageMean: [0.5, 0.5, 0.5],
  imageStd: [0.5, 0.5, 0.5],
  rescaleFactor: 1 / 255,
});
const renderer = await createRenderer({ fonts: [await dejaVuSans()], thoughtMarkers: false });
const texts = ["3 + 4 = 7", "", "so 7 * 6 = 42, which is the answer", "x"];

/** Counts the calls of the tower. */
function counted(model: VisionLanguageModel): { readonly model: VisionLanguageModel; readonly grids: number[] } {
  const grids: number[] = [];
  const imageFeatures: VisionLanguageModel["imageFeatures"] = (pixels, some, options) => {
    grids.push(some.length);
    return model.imageFeatures(pixels, some, options);
  };
  return { model: Object.assign(Object.create(model) as VisionLanguageModel, { imageFeatures }), grids };
}

test("targets are what the tower sees in each strip, in both encodings", async ({ device }) => {
  const { model } = randomModel(presets.tiny, device, { seed: 1 });
  for (const encoding of encodings) {
    const targets = await computeTargets(model, renderer, texts, { processor, encoding });
    for (const [i, text] of texts.entries()) {
      const { pixelValues, patchLength, imageGridThw } = pixelValuesOf(renderer.strip(text), encoding, processor);
      const pixels = tensor(device, pixelValues, { shape: [pixelValues.length / patchLength, patchLength] });
      const { tokens } = untaped(() => model.imageFeatures(pixels, imageGridThw));
      const got = targets[i]!;
      expect([got.rows, got.columns]).toEqual(tokens.shape);
      await expect(tensor(device, got.data, { shape: [got.rows, got.columns] })).toBeClose(tokens, { absolute: 1e-5 });
    }
  }
});

test("a long strip is looked at in pieces, and every piece alone: no bit depends on its neighbours", async ({
  device,
}) => {
  const { model, grids } = counted(randomModel(presets.tiny, device, { seed: 1 }).model);
  const long = "9 * 9 = 81, ".repeat(60); // more than 200 columns, two pieces
  const both = await computeTargets(model, renderer, [long, "x"], { processor });
  expect(grids).toEqual([1, 1, 1]);
  expect(both.map(({ rows }) => rows)).toEqual([latentGrid(renderer.strip(long), "exact", processor).tokens, 1]);
  expect(both[0]!.rows).toBeGreaterThan(200);
  expect(await computeTargets(model, renderer, ["x"], { processor })).toEqual(both.slice(1));
});

test("a warm cache calls no tower, and gives the same bits; only a chain that is new is looked at", async ({
  device,
}) => {
  const { model, weights, config } = randomModel(presets.tiny, device, { seed: 1 });
  const folder = await mkdtemp(join(tmpdir(), "rot-warm-"));
  try {
    for (const dtype of ["f32", "bf16"] as const) {
      const cache = {
        store: await targetCache(folder, { limitBytes: 1e8, dtype }),
        tower: await towerKey(weights, config.vision),
      };
      const { model: watched, grids } = counted(model);
      const cold = await computeTargets(watched, renderer, texts, { processor, cache });
      const warm = await computeTargets(watched, renderer, texts, { processor, cache });
      expect(warm).toEqual(cold);
      expect(grids).toEqual([1, 1, 1, 1]);
      const more = await computeTargets(watched, renderer, ["new", ...texts], { processor, cache });
      expect(more.slice(1)).toEqual(cold);
      expect(grids).toEqual([1, 1, 1, 1, 1]);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a key depends on every pixel and setting, and on nothing else", async () => {
  const strip = renderer.strip("abc");
  const settings = { tower: "t", encoding: "exact", processor: processor.config } as const;
  const base = await targetKey(strip, settings);
  const { minPixels, ...rest } = processor.config;
  expect(
    await targetKey({ ...strip, data: strip.data.slice() }, { ...settings, processor: { ...rest, minPixels } }),
  ).toBe(base);
  const changed = (change: (data: Uint8Array) => void): Strip => {
    const data = strip.data.slice();
    change(data);
    return { ...strip, data };
  };
  const others = await Promise.all([
    targetKey(
      changed((data) => void data[data.length - 1]!--),
      settings,
    ),
    targetKey({ ...strip, width: strip.height, height: strip.width }, settings),
    targetKey(strip, { ...settings, tower: "u" }),
    targetKey(strip, { ...settings, encoding: "reference" }),
    targetKey(strip, { ...settings, processor: { ...processor.config, minPixels: 1 } }),
    targetKey(renderer.strip("abd"), settings),
  ]);
  expect(new Set([base, ...others]).size).toBe(7);
});

test("the key of a tower is of its weights alone, all of them", async ({ device }) => {
  const { weights, config } = randomModel(presets.tiny, device, { seed: 1 });
  const base = await towerKey(weights, config.vision);
  expect(await towerKey(new Map([...weights].toReversed()), config.vision)).toBe(base);
  expect(await towerKey(randomModel(presets.tiny, device, { seed: 2 }).weights, config.vision)).not.toBe(base);
  const name = [...weights.keys()].findLast((one) => one.startsWith("model.visual."))!;
  const other = [...weights.keys()].find((one) => one.startsWith("model.language_model."))!;
  const changed = (one: string) => new Map(weights).set(one, weights.get(one)!.mul(2).add(1));
  expect(await towerKey(changed(name), config.vision)).not.toBe(base);
  expect(await towerKey(changed(other), config.vision)).toBe(base);
  expect(await towerKey(weights, { ...config.vision, depth: 99 })).not.toBe(base);
});
