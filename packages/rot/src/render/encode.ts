/** A strip as the vision tower takes it: whole cells of merged patches, in reading order. */
import { ShapeError, UsageError } from "@rot/tensor";
import type { Rgb, Strip } from "./strip.ts";

/** How `encodeExact` cuts. */
export interface ExactOptions {
  /** Pixels of a cell's side: patch size times merge size; 32 for Qwen3-VL. One cell becomes one latent. */
  readonly cell?: number;
  /** Cells of a piece at most; 200, the aspect ratio of one row of cells that the image processor still allows. */
  readonly maxColumns?: number;
  /** The color that fills up; white. */
  readonly background?: Rgb;
}

/** A strip in pieces of whole cells. */
export interface ExactEncoding {
  /** From left to right; each one's sides are multiples of the cell. */
  readonly pieces: readonly Strip[];
  /** Cells of all pieces together: the number of latents. */
  readonly cells: number;
  /** Columns of pixels with ink that rounding the width down has cut off on the right: 0 to half a cell. */
  readonly cutInk: number;
}

/**
 * Fits a strip to the tower without resizing it: every pixel that goes in is a pixel that was drawn.
 *
 * Its width becomes `cell · max(1, round(width / cell))`, halves to even as in Python: filled up or cut on the right.
 * Its height is filled up below to whole cells; a strip of 32 pixels is one row. Pieces follow each other in reading order.
 *
 * @throws {ShapeError} when the strip is empty
 * @throws {UsageError} when an option is not a positive whole number
 */
export function encodeExact(strip: Strip, options: ExactOptions = {}): ExactEncoding {
  const { cell = 32, maxColumns = 200, background = [255, 255, 255] } = options;
  for (const [name, value] of Object.entries({ cell, maxColumns })) {
    if (!Number.isInteger(value) || value < 1) throw new UsageError(`${name} is ${value}; it is a whole number from 1`);
  }
  const { columns, rows } = cellsOf(strip, cell);
  const pieces: Strip[] = [];
  for (let column = 0; column < columns; column += maxColumns) {
    const width = cell * Math.min(maxColumns, columns - column);
    pieces.push(crop(strip, column * cell, width, rows * cell, background));
  }
  return { pieces, cells: columns * rows, cutInk: inkFrom(strip, columns * cell, background) };
}

/**
 * The cells of a strip, without cutting it.
 *
 * @param cell  pixels of a cell's side
 * @throws {ShapeError} when the strip is empty
 */
export function cellsOf(
  { width, height }: Pick<Strip, "width" | "height">,
  cell: number,
): { readonly columns: number; readonly rows: number } {
  if (width < 1 || height < 1) throw new ShapeError(`a strip of ${width} x ${height} pixels is empty`);
  return { columns: Math.max(1, roundHalfToEven(width / cell)), rows: Math.ceil(height / cell) };
}

/** Rounds as Python does. */
function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** The columns from `left` on, `width` x `height` pixels; what lies outside the strip is background. */
function crop(strip: Strip, left: number, width: number, height: number, background: Rgb): Strip {
  const { channels } = strip;
  const pixels = new Uint8Array(width * height * channels);
  if (background.every((value) => value === background[0])) pixels.fill(background[0]);
  else for (let i = 0; i < pixels.length; i++) pixels[i] = background[i % channels]!;
  const copied = Math.max(0, Math.min(width, strip.width - left));
  for (let row = 0; row < strip.height; row++) {
    const from = (row * strip.width + left) * channels;
    pixels.set(strip.data.subarray(from, from + copied * channels), row * width * channels);
  }
  return { width, height, channels, data: pixels, missing: strip.missing };
}

/** How many columns from `left` on are not all background. */
function inkFrom({ width, height, channels, data }: Strip, left: number, background: Rgb): number {
  let count = 0;
  for (let x = left; x < width; x++) {
    let ink = false;
    for (let row = 0; row < height && !ink; row++) {
      for (let channel = 0; channel < channels; channel++) {
        ink ||= data[(row * width + x) * channels + channel] !== background[channel];
      }
    }
    if (ink) count++;
  }
  return count;
}
