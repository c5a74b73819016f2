/** Picture files to pixels: PNG and JPEG. Files may be hostile, so sizes are read and checked before anything is decoded. */

import { ImageError } from "../error.ts";
import type { Image } from "../image.ts";
import { decodeJpeg } from "./decode-jpeg.ts";
import { decodePng } from "./decode-png.ts";

/** Limits on a file, and its name for messages. */
export interface DecodeImageOptions {
  /** Width times height at most; default 67,108,864. Decoding takes up to 20 bytes a pixel meanwhile. */
  readonly maxPixels?: number;
  /** Default "image". */
  readonly name?: string;
}

const defaultMaxPixels = 2 ** 26;

/** What files begin with that are pictures, but of no kind we read. */
const others: readonly (readonly [name: string, at: number, text: string])[] = [
  ["a WebP file", 8, "WEBP"],
  ["a GIF file", 0, "GIF8"],
  ["a BMP file", 0, "BM"],
  ["a TIFF file", 0, "II*\0"],
  ["a TIFF file", 0, "MM\0*"],
  ["an AVIF file", 4, "ftypavif"],
  ["a HEIC file", 4, "ftyphei"],
  ["a HEIC file", 4, "ftypmif1"],
  ["a JPEG XL file", 0, "\xff\x0a"],
  ["a JPEG XL file", 4, "JXL "],
  ["a JPEG 2000 file", 4, "jP  "],
  ["an SVG or XML file", 0, "<"],
  ["a PDF file", 0, "%PDF"],
];

/**
 * The pixels of a PNG (any colour type and depth, interlaced or not) or JPEG (baseline or progressive, gray, colour or
 * CMYK; turned as its EXIF orientation says). Of 16 bits a channel the upper 8 stay.
 *
 * @throws {ImageError} when the file is damaged, of another kind, or has more than `maxPixels`
 */
export function decodeImage(bytes: Uint8Array, options: DecodeImageOptions = {}): Image {
  const { name = "image", maxPixels = defaultMaxPixels } = options;
  const head = String.fromCharCode(...bytes.subarray(0, 16));
  try {
    if (head.startsWith("\x89PNG")) return decodePng(bytes, maxPixels);
    if (head.startsWith("\xff\xd8")) return decodeJpeg(bytes, maxPixels);
  } catch (error) {
    throw new ImageError(`${name}: ${(error as Error).message}`, { cause: error });
  }
  const other = others.find(([, at, text]) => head.startsWith(text, at));
  throw new ImageError(
    `${name}: this is ${other ? other[0] : bytes.length === 0 ? "an empty file" : "no picture file we know"}; PNG and JPEG can be read`,
  );
}
