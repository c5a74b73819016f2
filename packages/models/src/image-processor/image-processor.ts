/** Pictures to the patches that a vision tower reads, as transformers' Qwen2VLImageProcessor makes them. */

import type { Grid } from "../vision-language-model.ts";
import { type ImageProcessorConfig, readImageProcessorConfig } from "./config.ts";
import { ImageError } from "./error.ts";
import { type AlphaRule, type Image, type RgbImage, toRgb } from "./image.ts";
import { resize, type ResizeRule } from "./resize.ts";
import { type Size, smartResize } from "./smart-resize.ts";

/** Pictures as a vision tower takes them. */
export interface PixelValues {
  /** [patches of all pictures, 3 * temporalPatchSize * patchSize²], row by row. */
  readonly pixelValues: Float32Array;
  /** Values in a row. */
  readonly patchLength: number;
  /** Frames, rows and columns of each picture in patches; a still picture has 1 frame. */
  readonly imageGridThw: readonly Grid[];
}

/** Which of two histories of transformers to follow. */
export interface ImageProcessorOptions {
  /** Default "torchvision". */
  readonly resize?: ResizeRule;
  /** Default "white". */
  readonly alpha?: AlphaRule;
}

/**
 * The image processor of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: resize to whole blocks of patches, normalize, cut.
 *
 * A row holds a patch as [channel, frame, y, x]. Rows follow blocks of mergeSize² patches: blocks row by row, and patches
 * row by row in a block, so that the rows of a block, which become one token, are neighbours.
 */
export class ImageProcessor {
  readonly config: ImageProcessorConfig;
  readonly #resize: ResizeRule;
  readonly #alpha: AlphaRule;

  constructor(config: ImageProcessorConfig, options: ImageProcessorOptions = {}) {
    this.config = config;
    this.#resize = options.resize ?? "torchvision";
    this.#alpha = options.alpha ?? "white";
  }

  /** From the text of `preprocessor_config.json`. @throws {ImageError} as {@link readImageProcessorConfig} does */
  static fromFile(text: string, options: ImageProcessorOptions & { readonly name?: string } = {}): ImageProcessor {
    return new ImageProcessor(readImageProcessorConfig(text, options.name), options);
  }

  /** The size a picture is brought to. @throws {ImageError} when one side is more than 200 times the other */
  targetSize(size: Size): Size {
    const { patchSize, mergeSize, minPixels, maxPixels } = this.config;
    return smartResize(size, { factor: patchSize * mergeSize, minPixels, maxPixels });
  }

  /** Tokens that a picture of this grid becomes: its merged patches. */
  tokens([frames, rows, columns]: Grid): number {
    return (frames * rows * columns) / this.config.mergeSize ** 2;
  }

  /** `image` as RGB, brought to its target size. */
  resize(image: Image): RgbImage {
    return resize(toRgb(image, this.#alpha), this.targetSize(image), this.#resize);
  }

  /**
   * Patches of pictures of any sizes, one after the other.
   *
   * @throws {ImageError} when a picture is not one, or one of its sides is more than 200 times the other
   */
  process(images: readonly Image[]): PixelValues {
    const { patchSize, temporalPatchSize } = this.config;
    const patchLength = 3 * temporalPatchSize * patchSize ** 2;
    const grids = images.map((image): Grid => {
      const { height, width } = this.targetSize(image);
      return [1, height / patchSize, width / patchSize];
    });
    const patches = grids.reduce((sum, [, height, width]) => sum + height * width, 0);
    const pixelValues = new Float32Array(patches * patchLength);
    let at = 0;
    for (const image of images) at = this.#cut(this.resize(image), pixelValues, at);
    return { pixelValues, patchLength, imageGridThw: grids };
  }

  /** Writes the patches of a resized picture to `out` from `at` on. @returns where it stopped */
  #cut({ width, height, data }: RgbImage, out: Float32Array, at: number): number {
    const { patchSize, temporalPatchSize, mergeSize } = this.config;
    const block = patchSize * mergeSize;
    const frame = patchSize ** 2;
    for (let blockY = 0; blockY < height; blockY += block)
      for (let blockX = 0; blockX < width; blockX += block)
        for (let top = blockY; top < blockY + block; top += patchSize)
          for (let left = blockX; left < blockX + block; left += patchSize)
            for (let c = 0; c < 3; c++) {
              const values = this.#normalized[c] as Float32Array;
              const begin = at;
              for (let y = top; y < top + patchSize; y++) {
                let from = (y * width + left) * 3 + c;
                for (let x = 0; x < patchSize; x++, from += 3) out[at++] = values[data[from] as number] as number;
              }
              for (let t = 1; t < temporalPatchSize; t++, at += frame) out.copyWithin(at, begin, begin + frame);
            }
    return at;
  }

  /** What each of the 256 values of a channel becomes, in f32 and in the order of the steps of either implementation. */
  get #normalized(): readonly Float32Array[] {
    const { imageMean, imageStd, rescaleFactor } = this.config;
    const { fround } = Math;
    // Pillow's path scales the values, torchvision's the mean and the deviation.
    const isPil = this.#resize === "pil";
    const scaled = (value: number) => (isPil ? fround(value) : fround(fround(value) * (1 / rescaleFactor)));
    return (this.#table ??= imageMean.map((mean, c) =>
      Float32Array.from({ length: 256 }, (_, value) => {
        const rescaled = isPil ? fround(value * rescaleFactor) : value;
        return fround(rescaled - scaled(mean)) / scaled(imageStd[c] as number);
      }),
    ));
  }
  #table: readonly Float32Array[] | undefined;
}

/**
 * Repeats the token that stands for a picture once for each token the picture becomes.
 *
 * @param ids    of a prompt with one `imagePad` a picture
 * @param counts tokens of each picture, in order
 * @throws {ImageError} when there are not as many pads as pictures: also when a user wrote `<|image_pad|>` into a text
 */
export function expandImagePads(ids: readonly number[], imagePad: number, counts: readonly number[]): number[] {
  const pads = ids.reduce((sum, id) => sum + (id === imagePad ? 1 : 0), 0);
  if (pads !== counts.length)
    throw new ImageError(
      `the prompt has ${pads} places for pictures (token ${imagePad}), but ${counts.length} pictures came`,
    );
  const result: number[] = [];
  let picture = 0;
  for (const id of ids) {
    const times = id === imagePad ? (counts[picture++] as number) : 1;
    for (let i = 0; i < times; i++) result.push(id);
  }
  return result;
}
