/** The size a picture is brought to: whole patches, its pixels between two bounds, its shape kept as well as can be. */

import { ImageError } from "./error.ts";

/** Rows and columns. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** What {@link smartResize} keeps to. */
export interface SizeRule {
  /** Both sides become multiples of it: patch size times merge size. */
  readonly factor: number;
  /** Pixels: height times width. */
  readonly minPixels: number;
  readonly maxPixels: number;
}

const maxRatio = 200;

/** qwen_vl_utils brings every picture to this before the image processor sees it, whatever the model's patch size. */
const fetchRule: SizeRule = { factor: 28, minPixels: 4 * 28 * 28, maxPixels: 16384 * 28 * 28 };

/** Python's `round`: halves go to the even neighbour. */
function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Both sides to the nearest multiple of `factor` (at least `least` of them), then scaled into the bounds. */
function fit({ height, width }: Size, { factor, minPixels, maxPixels }: SizeRule, least: number): Size {
  const ratio = Math.max(height, width) / Math.min(height, width);
  if (!(ratio <= maxRatio)) {
    // In Python's spelling, so that the message is the reference's.
    const shown = Number.isInteger(ratio) ? ratio.toFixed(1) : ratio;
    throw new ImageError(`absolute aspect ratio must be smaller than ${maxRatio}, got ${shown} (${width}x${height})`);
  }
  const nearest = (side: number) => Math.max(least, roundHalfEven(side / factor)) * factor;
  const size = { height: nearest(height), width: nearest(width) };
  if (size.height * size.width > maxPixels) {
    const beta = Math.sqrt((height * width) / maxPixels);
    const below = (side: number) => Math.max(factor, Math.floor(side / beta / factor) * factor);
    return { height: below(height), width: below(width) };
  }
  if (size.height * size.width < minPixels) {
    const beta = Math.sqrt(minPixels / (height * width));
    const above = (side: number) => Math.ceil((side * beta) / factor) * factor;
    return { height: above(height), width: above(width) };
  }
  return size;
}

/**
 * The size that Qwen's image processor resizes a picture to.
 *
 * @throws {ImageError} when one side is more than 200 times the other
 */
export function smartResize(size: Size, rule: SizeRule): Size {
  return fit(size, rule, 0);
}

/**
 * The size that `qwen_vl_utils.fetch_image` brings a picture to with its defaults, sides being multiples of 28.
 * Render-of-Thought's reference resizes so first, and to the model's own size then.
 *
 * @throws {ImageError} when one side is more than 200 times the other
 */
export function fetchImageSize(size: Size): Size {
  return fit(size, fetchRule, 1);
}
