/**
 * Strips of digits as the tiny model sees them.
 *
 * In DejaVu Sans of 25 pixels a digit and the comma and space after it are as wide as a cell of merged patches, so that one
 * cell is one step. What stands in a cell depends on its place, its digit and whether it is the last, and on no other digit:
 * a strip is put together from cells that were drawn once.
 */
import { type Grid, readImageProcessorConfig, type VisionLanguageModel } from "@rot/models";
import { type Device, scope, tensor, type Tensor } from "@rot/tensor";
import type { Font } from "../render/font.ts";
import { createRenderer, type Renderer } from "../render/strip.ts";
import { exactPixelValues } from "../render/vision.ts";
import { chainText, STEPS } from "./problems.ts";

/** `preprocessor_config.json` of the tiny model. */
export const processorConfig = {
  image_processor_type: "Qwen2VLImageProcessorFast",
  patch_size: 16,
  temporal_patch_size: 2,
  merge_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
} as const;

const processor = readImageProcessorConfig(JSON.stringify(processorConfig));

/** Pixels: a digit, a comma and a space are then as wide as a cell. */
export const FONT_SIZE = 25;

/** Patches of a cell. */
const PATCHES = 4;
const DIGITS = 10;

/** Draws what the tiny model thinks in. */
export const stripRenderer = (font: Font): Promise<Renderer> =>
  createRenderer({ fonts: [font], fontSize: FONT_SIZE, thoughtMarkers: false });

/** Pixel values of a strip, a row for each patch. */
export const stripPixels = (renderer: Renderer, values: readonly number[]) =>
  exactPixelValues(renderer.strip(chainText(values)), processor);

/** Strips on a device. */
export interface Strips {
  /**
   * What the vision tower sees in each strip.
   *
   * @param chains  digits of each strip, 1 to {@link STEPS} of them
   * @returns       [cells, D], strip after strip
   */
  see(model: VisionLanguageModel, chains: readonly (readonly number[])[]): Tensor;
  /** Pixel values and grids of strips, as {@link VisionLanguageModel.imageFeatures} takes them. */
  pixels(chains: readonly (readonly number[])[]): { readonly pixels: Tensor; readonly grids: readonly Grid[] };
}

/** Draws the cells. */
export async function createStrips(device: Device, font: Font): Promise<Strips> {
  const renderer = await stripRenderer(font);
  const patchLength = 3 * 2 * 16 ** 2;
  const cellLength = PATCHES * patchLength;
  // A cell that others follow stands in a strip of all steps; a last one of its place ends a strip.
  const cells = new Float32Array(2 * STEPS * DIGITS * cellLength);
  for (let count = 1; count <= STEPS; count++) {
    for (let digit = 0; digit < DIGITS; digit++) {
      const { pixelValues } = stripPixels(renderer, Array<number>(count).fill(digit));
      for (let place = count === STEPS ? 0 : count - 1; place < count; place++) {
        const from = place * cellLength;
        cells.set(pixelValues.subarray(from, from + cellLength), rowOf(place, digit, count) * cellLength);
      }
    }
  }

  const pixels: Strips["pixels"] = (chains) => {
    const rows = chains.flatMap((values) => values.map((digit, place) => rowOf(place, digit, values.length)));
    const values = new Float32Array(rows.length * cellLength);
    for (const [i, row] of rows.entries()) {
      values.set(cells.subarray(row * cellLength, (row + 1) * cellLength), i * cellLength);
    }
    return {
      pixels: tensor(device, values, { shape: [rows.length * PATCHES, patchLength] }),
      grids: chains.map(({ length }) => [1, 2, 2 * length]),
    };
  };
  return {
    pixels,
    see: (model, chains) =>
      scope(() => {
        const { pixels: values, grids } = pixels(chains);
        return model.imageFeatures(values, grids).tokens;
      }),
  };
}

/** Where the cells have a digit that stands at a place of so many. */
const rowOf = (place: number, digit: number, count: number): number =>
  ((place + 1 === count ? STEPS : 0) + place) * DIGITS + digit;
