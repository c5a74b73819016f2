/** A strip as pixel values of the vision tower: as it was drawn, or through the two resizes of the reference. */
import {
  fetchImageSize,
  ImageProcessor,
  type ImageProcessorConfig,
  type PixelValues,
  resize,
  type RgbImage,
  toRgb,
} from "@rot/models";
import { cellsOf, encodeExact, type ExactOptions } from "./encode.ts";
import type { Strip } from "./strip.ts";

/** How a strip becomes latents: `exact` as it was drawn, `reference` through both resizes of the published code. */
export const encodings = ["exact", "reference"] as const;
export type Encoding = (typeof encodings)[number];

/** What a strip becomes. */
export interface LatentGrid {
  /** Latents: one for each block of merged patches. */
  readonly tokens: number;
  /** Rows of them. */
  readonly rows: number;
}

/**
 * The latents that a strip becomes, without making its pixel values.
 *
 * @throws {ShapeError} when the strip is empty
 * @throws {ImageError} when it is too wide for the reference's encoding
 */
export function latentGrid(strip: Strip, encoding: Encoding, processor: ImageProcessor): LatentGrid {
  const cell = processor.config.patchSize * processor.config.mergeSize;
  if (encoding === "exact") {
    const { columns, rows } = cellsOf(strip, cell);
    return { tokens: columns * rows, rows };
  }
  const { width, height } = processor.targetSize(fetchImageSize(strip));
  return { tokens: (width / cell) * (height / cell), rows: height / cell };
}

/**
 * Pixel values of a strip in an encoding: {@link exactPixelValues} or {@link referencePixelValues}.
 *
 * @throws {ImageError} when the strip is too wide for the reference's encoding
 */
export const pixelValuesOf = (strip: Strip, encoding: Encoding, processor: ImageProcessor): PixelValues =>
  encoding === "exact" ? exactPixelValues(strip, processor.config) : referencePixelValues(strip, processor);

/**
 * Pixel values of a strip without any resize; one grid a piece, in reading order. See {@link encodeExact}.
 *
 * @param config   of the checkpoint's image processor; its bounds of the area do not count here
 * @param options  the cell is the config's: patch size times merge size
 */
export function exactPixelValues(
  strip: Strip,
  config: ImageProcessorConfig,
  options: Omit<ExactOptions, "cell"> = {},
): PixelValues {
  const { pieces } = encodeExact(strip, { ...options, cell: config.patchSize * config.mergeSize });
  return new ImageProcessor({ ...config, minPixels: 1, maxPixels: Number.MAX_SAFE_INTEGER }).process(pieces);
}

/**
 * The reference's first resize: `qwen_vl_utils` brings the sides to multiples of 28, 32 rows to 28, by Pillow's bicubic.
 *
 * @throws {ImageError} when the strip is more than 200 times as wide as high, about 500 characters at 20 px
 */
export function referenceResize(strip: Strip): RgbImage {
  return resize(toRgb(strip), fetchImageSize(strip), "pil");
}

/**
 * Pixel values of a strip as the reference makes them: its first resize, then the processor's own.
 *
 * @param processor  of the checkpoint
 * @throws {ImageError} when the strip is too wide
 */
export function referencePixelValues(strip: Strip, processor: ImageProcessor): PixelValues {
  return processor.process([referenceResize(strip)]);
}
