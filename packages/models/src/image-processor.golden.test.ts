/** Every case of the golden image processor: sizes, resized pictures byte by byte, patches. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fromBytes, openSafetensors, toTyped } from "@rot/tensor/safetensors";
import { expect, test } from "vitest";
import { toRgb } from "./image-processor/image.ts";
import { ImageProcessor } from "./image-processor/image-processor.ts";
import { decodeImage } from "./image-processor/node/decode-image.ts";
import { resize } from "./image-processor/resize.ts";
import { fetchImageSize, type Size, smartResize } from "./image-processor/smart-resize.ts";

const own = fileURLToPath(new URL("../test/golden", import.meta.url));
const root = process.env["ROT_GOLDEN_DIR"] ? resolve(process.env["ROT_GOLDEN_DIR"]) : own;
const folder = join(root, "image_processor");
const picture = (file: string) => decodeImage(readFileSync(join(folder, file)), { name: file });
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

interface Expected {
  readonly pixel_values_shape: [number, number];
  readonly sum: number;
  readonly sum_of_squares: number;
  readonly sha256_resized_rgb: string;
  readonly resized: string;
}
interface Case {
  readonly id: number;
  readonly file: string;
  readonly width: number;
  readonly height: number;
  readonly min_pixels: number;
  readonly max_pixels: number;
  readonly image_grid_thw: [number, number, number];
  readonly torchvision: Expected;
  readonly pil: Expected;
}

const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as Case[];
const readme = readFileSync(join(folder, "README.md"), "utf8").replace(/\s+/g, " ");
const stated = (pattern: RegExp): number[] => {
  const found = pattern.exec(readme);
  if (!found) throw new Error(`${folder}/README.md does not say ${pattern}`);
  return found.slice(1).map(Number);
};
const [patch, frames, merge, mean, deviation] = stated(
  /\(patch (\d+), temporal patch (\d+), merge (\d+), mean ([\d.]+), std ([\d.]+)\)/,
);
/** The settings of the processor that made the pictures, which need not be those of the tiny model. */
const config = {
  patch_size: patch,
  temporal_patch_size: frames,
  merge_size: merge,
  image_mean: [mean, mean, mean],
  image_std: [deviation, deviation, deviation],
};
/** Where the resized picture agrees. */
const [tolerance = 0] = stated(/pixel_values (\d+e-\d+) when the resized picture agrees/);

/** Pixel values of some cases; there is no such file where no case has them stored. */
const valuesFile = join(folder, "pixel_values.safetensors");
const values = existsSync(valuesFile)
  ? await openSafetensors(fromBytes(readFileSync(valuesFile)), { name: valuesFile })
  : null;
const valuesKey = (file: string, rule: string): string => `${file.replace(/\.png$/, "")}.${rule}.pixel_values`;

test.for(cases.flatMap((one) => (["torchvision", "pil"] as const).map((rule) => [one.file, rule, one] as const)))(
  "%s, %s",
  async ([file, rule, one]) => {
    const wanted = one[rule];
    const settings = { ...config, min_pixels: one.min_pixels, max_pixels: one.max_pixels };
    const processor = ImageProcessor.fromFile(JSON.stringify(settings), { resize: rule });
    const image = picture(file);
    expect([image.width, image.height]).toEqual([one.width, one.height]);

    const resized = processor.resize(image);
    const stored = toRgb(picture(wanted.resized));
    expect([resized.width, resized.height]).toEqual([stored.width, stored.height]);
    expect(Buffer.compare(resized.data, stored.data), "the resized picture, byte by byte").toBe(0);
    expect(sha256(resized.data)).toBe(wanted.sha256_resized_rgb);

    const { pixelValues, patchLength, imageGridThw } = processor.process([image]);
    expect(imageGridThw).toEqual([one.image_grid_thw]);
    expect([pixelValues.length / patchLength, patchLength]).toEqual(wanted.pixel_values_shape);
    let sum = 0;
    let squares = 0;
    for (const value of pixelValues) {
      sum += value;
      squares += value * value;
    }
    expect(Math.abs(sum - wanted.sum)).toBeLessThan(tolerance * pixelValues.length);
    expect(Math.abs(squares - wanted.sum_of_squares)).toBeLessThan(2 * tolerance * pixelValues.length);

    const key = valuesKey(file, rule);
    const entry = values?.tensors.get(key);
    if (!values || !entry) return;
    const stand = toTyped(entry, await values.read(key)).data;
    expect(stand.length).toBe(pixelValues.length);
    let worst = 0;
    stand.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - (pixelValues[i] as number)))));
    expect(worst).toBeLessThanOrEqual(tolerance);
  },
);

test("all pixel values that are stored belong to a case", () => {
  const keys = cases.flatMap(({ file }) => ["torchvision", "pil"].map((rule) => valuesKey(file, rule)));
  for (const key of values?.tensors.keys() ?? []) expect(keys).toContain(key);
});

interface Resized extends Size {
  readonly result: readonly [number, number] | string;
}
const sizes = JSON.parse(readFileSync(join(folder, "smart_resize.json"), "utf8")) as {
  readonly image_processor: readonly (Resized & { factor: number; min_pixels: number; max_pixels: number })[];
  readonly qwen_vl_utils_fetch_image: readonly Resized[];
};

function checkSize(one: Resized, run: (size: Size) => Size): void {
  if (typeof one.result === "string") {
    expect(() => run(one)).toThrow(one.result);
    return;
  }
  const { height, width } = run(one);
  expect([height, width], JSON.stringify(one)).toEqual(one.result);
}

test("smart_resize of the image processor", () => {
  for (const one of sizes.image_processor)
    checkSize(one, (size) =>
      smartResize(size, { factor: one.factor, minPixels: one.min_pixels, maxPixels: one.max_pixels }),
    );
});

test("the size that qwen_vl_utils resizes to", () => {
  for (const one of sizes.qwen_vl_utils_fetch_image) checkSize(one, fetchImageSize);
});

const fetched = readdirSync(folder).filter((name) => /^fetch\d+\.png$/.test(name));

test.for(fetched)("qwen_vl_utils' resize of %s", (file) => {
  const image = toRgb(picture(file));
  const stored = toRgb(picture(file.replace(".png", "_resized28.png")));
  const resized = resize(image, fetchImageSize(image), "pil");
  expect([resized.width, resized.height]).toEqual([stored.width, stored.height]);
  expect(Buffer.compare(resized.data, stored.data)).toBe(0);
});

test("there are pictures for it", () => expect(fetched.length).toBeGreaterThan(0));
