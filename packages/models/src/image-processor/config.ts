/** `preprocessor_config.json` of Qwen's vision models, as transformers 4 and 5 write it. */

import { z } from "zod";
import { ImageError } from "./error.ts";

const pixels = z
  .int()
  .min(1)
  .max(2 ** 40);
const side = z.int().min(1).max(4096);
const triple = z.tuple([z.number(), z.number(), z.number()]);
/** Pillow's number for bicubic, the one filter that Qwen uses. */
const bicubic = 3;

const schema = z.looseObject({
  // Others, CLIP's for one, mean other things by the same settings.
  image_processor_type: z
    .string()
    .regex(/^Qwen\w*ImageProcessor/, "not one of Qwen's image processors")
    .nullish(),
  size: z.looseObject({ shortest_edge: pixels.nullish(), longest_edge: pixels.nullish() }).nullish(),
  min_pixels: pixels.nullish(),
  max_pixels: pixels.nullish(),
  patch_size: side.default(14),
  temporal_patch_size: z.int().min(1).max(16).default(2),
  merge_size: z.int().min(1).max(64).default(2),
  image_mean: triple.default([0.48145466, 0.4578275, 0.40821073]),
  image_std: z
    .tuple([z.number().positive(), z.number().positive(), z.number().positive()])
    .default([0.26862954, 0.26130258, 0.27577711]),
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  resample: z.literal(bicubic).nullish(),
  do_resize: z.literal(true).nullish(),
  do_rescale: z.literal(true).nullish(),
  do_normalize: z.literal(true).nullish(),
  do_convert_rgb: z.literal(true).nullish(),
});

/** What the image processor does to a picture. */
export interface ImageProcessorConfig {
  /** Bounds of height times width after resizing. */
  readonly minPixels: number;
  readonly maxPixels: number;
  /** Pixels along a side of a patch. */
  readonly patchSize: number;
  /** Frames in a patch; a still picture is repeated. */
  readonly temporalPatchSize: number;
  /** Patches along a side of what becomes one token. */
  readonly mergeSize: number;
  /** Of red, green and blue, of values scaled by `rescaleFactor`. */
  readonly imageMean: readonly [number, number, number];
  readonly imageStd: readonly [number, number, number];
  readonly rescaleFactor: number;
}

/**
 * Reads the text of `preprocessor_config.json`. The bounds stand in `size` (`shortest_edge`, `longest_edge`; both are
 * pixel counts) or, which goes first as in transformers, in `min_pixels` and `max_pixels`.
 *
 * @throws {ImageError} that names `file` and the setting: also for one that this processor does not have
 */
export function readImageProcessorConfig(text: string, file = "preprocessor_config.json"): ImageProcessorConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ImageError(`${file} is not JSON: ${(error as Error).message}`);
  }
  const { success, data, error } = schema.safeParse(json);
  if (!success) throw new ImageError(`${file}: ${z.prettifyError(error).slice(0, 2000)}`);
  const minPixels = data.min_pixels ?? data.size?.shortest_edge ?? 56 * 56;
  const maxPixels = data.max_pixels ?? data.size?.longest_edge ?? 28 * 28 * 1280;
  if (minPixels > maxPixels) throw new ImageError(`${file}: at least ${minPixels} pixels and at most ${maxPixels}`);
  return {
    minPixels,
    maxPixels,
    patchSize: data.patch_size,
    temporalPatchSize: data.temporal_patch_size,
    mergeSize: data.merge_size,
    imageMean: data.image_mean,
    imageStd: data.image_std,
    rescaleFactor: data.rescale_factor,
  };
}
