import { expect, test } from "vitest";
import { readImageProcessorConfig } from "./config.ts";
import { ImageError } from "./error.ts";
import { type Image, type RgbImage, toRgb } from "./image.ts";
import { expandImagePads, ImageProcessor } from "./image-processor.ts";
import { resize } from "./resize.ts";

const qwen3 = {
  patch_size: 16,
  temporal_patch_size: 2,
  merge_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
};
const sizes = { size: { shortest_edge: 1024, longest_edge: 1 << 20 } };
const read = (settings: object) =>
  readImageProcessorConfig(JSON.stringify({ ...qwen3, ...sizes, ...settings }), "p.json");
const gradient = (width: number, height: number): RgbImage => ({
  width,
  height,
  channels: 3,
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + (i >> 5)) % 256),
});

test("configuration: both spellings of the bounds", () => {
  expect(read({})).toMatchObject({ minPixels: 1024, maxPixels: 1 << 20, patchSize: 16, mergeSize: 2 });
  expect(read({ size: null, min_pixels: 5, max_pixels: 6 })).toMatchObject({ minPixels: 5, maxPixels: 6 });
  expect(read({ min_pixels: 7 })).toMatchObject({ minPixels: 7, maxPixels: 1 << 20 });
  expect(readImageProcessorConfig("{}")).toMatchObject({ patchSize: 14, minPixels: 3136, maxPixels: 1_003_520 });
});

test.for<[object, RegExp]>([
  [{ patch_size: 0 }, /p.json: .*patch_size/s],
  [{ image_std: [0, 1, 1] }, /image_std/],
  [{ do_resize: false }, /do_resize/],
  [{ resample: 2 }, /resample/],
  [{ min_pixels: 9, max_pixels: 8 }, /at least 9 pixels and at most 8/],
  [{ image_processor_type: "CLIPImageProcessor" }, /not one of Qwen's image processors/],
])("configuration refused: %j", ([settings, message]) => {
  expect(() => read(settings)).toThrow(ImageError);
  expect(() => read(settings)).toThrow(message);
});

test("an aspect ratio over 200 is an error that says so", () => {
  const processor = new ImageProcessor(read({}));
  expect(() => processor.process([gradient(201, 1)])).toThrow(
    "absolute aspect ratio must be smaller than 200, got 201.0 (201x1)",
  );
  expect(processor.targetSize({ width: 200, height: 1 })).toEqual({ height: 32, width: 480 });
});

test("rows of patches: blocks of merged patches, each row channel by channel, frame by frame", () => {
  const processor = new ImageProcessor(read({ patch_size: 2, merge_size: 2, temporal_patch_size: 3, min_pixels: 1 }));
  const image = gradient(8, 4);
  const { pixelValues, patchLength, imageGridThw } = processor.process([image, gradient(4, 4)]);
  expect(imageGridThw).toEqual([
    [1, 2, 4],
    [1, 2, 2],
  ]);
  expect(patchLength).toBe(3 * 3 * 2 * 2);
  expect(pixelValues).toHaveLength((8 + 4) * patchLength);
  expect(imageGridThw.map((grid) => processor.tokens(grid))).toEqual([2, 1]);
  let at = 0;
  for (const block of [0, 4])
    for (const top of [0, 2])
      for (const left of [block, block + 2])
        for (let c = 0; c < 3; c++)
          for (let t = 0; t < 3; t++)
            for (let y = top; y < top + 2; y++)
              for (let x = left; x < left + 2; x++)
                expect(pixelValues[at++]).toBe(
                  Math.fround(((image.data[(y * 8 + x) * 3 + c] as number) - 127.5) / 127.5),
                );
});

test("mean and deviation are each channel's own", () => {
  const settings = {
    image_mean: [0.1, 0.2, 0.3],
    image_std: [0.4, 0.5, 0.6],
    patch_size: 1,
    merge_size: 1,
    min_pixels: 1,
  };
  for (const rule of ["torchvision", "pil"] as const) {
    const processor = new ImageProcessor(read({ ...settings, temporal_patch_size: 1 }), { resize: rule });
    const { pixelValues } = processor.process([
      { width: 1, height: 1, channels: 3, data: Uint8Array.of(10, 100, 250) },
    ]);
    for (const [c, value] of [10, 100, 250].entries()) {
      const exact = (value / 255 - (settings.image_mean[c] as number)) / (settings.image_std[c] as number);
      expect(Math.abs((pixelValues[c] as number) - exact)).toBeLessThan(1e-6);
    }
  }
});

test("gray and alpha become RGB", () => {
  const picture = (channels: 1 | 2 | 3 | 4, ...data: number[]): Image => ({
    width: 1,
    height: 1,
    channels,
    data: Uint8Array.from(data),
  });
  expect(Array.from(toRgb(picture(1, 7)).data)).toEqual([7, 7, 7]);
  expect(Array.from(toRgb(picture(2, 0, 128)).data)).toEqual([127, 127, 127]);
  expect(Array.from(toRgb(picture(4, 0, 100, 255, 0)).data)).toEqual([255, 255, 255]);
  expect(Array.from(toRgb(picture(4, 0, 100, 255, 0), "drop").data)).toEqual([0, 100, 255]);
  const all = Array.from({ length: 65_536 }, (_, i) => [i >> 8, i & 255] as const);
  const blended = toRgb({ width: 256, height: 256, channels: 2, data: Uint8Array.from(all.flat()) }).data;
  const exact = all.map(([value, alpha]) => Math.round((value * alpha + 255 * (255 - alpha)) / 255));
  expect(Array.from(blended.filter((_, i) => i % 3 === 0))).toEqual(exact);
  expect(() => toRgb({ width: 2, height: 1, channels: 3, data: new Uint8Array(3) })).toThrow(
    /2x1 with 3 channels needs 6 values, not 3/,
  );
  expect(() => toRgb({ width: 0, height: 1, channels: 3, data: new Uint8Array(0) })).toThrow(ImageError);
});

test("resize: the same size is the same picture, one colour stays one colour, both rules are a step apart at most", () => {
  const image = gradient(37, 23);
  expect(resize(image, image).data).toBe(image.data);
  const flat: RgbImage = { width: 9, height: 5, channels: 3, data: new Uint8Array(135).fill(201) };
  for (const [height, width] of [
    [1, 1],
    [5, 40],
    [50, 3],
    [2, 9],
  ] as const)
    expect(new Set(resize(flat, { height, width }).data)).toEqual(new Set([201]));
  for (const [height, width] of [
    [7, 11],
    [60, 80],
    [23, 5],
    [90, 37],
  ] as const) {
    const [a, b] = (["torchvision", "pil"] as const).map((rule) => resize(image, { height, width }, rule).data);
    expect(a).toHaveLength(height * width * 3);
    expect(
      Math.max(...Array.from(a as Uint8Array, (value, i) => Math.abs(value - (b?.[i] as number)))),
    ).toBeLessThanOrEqual(1);
  }
  expect(() => resize(image, { height: 0, width: 4 })).toThrow(ImageError);
});

test("pads are repeated once for each token, and must be as many as pictures", () => {
  expect(expandImagePads([1, 9, 2, 9, 3], 9, [2, 3])).toEqual([1, 9, 9, 2, 9, 9, 9, 3]);
  expect(expandImagePads([1, 2], 9, [])).toEqual([1, 2]);
  expect(() => expandImagePads([9, 9], 9, [1])).toThrow(
    "the prompt has 2 places for pictures (token 9), but 1 pictures came",
  );
});
