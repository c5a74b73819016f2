/** JPEG through jpeg-js, turned as a camera says it was held. */

import { decode } from "jpeg-js";
import { ImageError } from "../error.ts";
import type { Image } from "../image.ts";
import { checkSides } from "./check-sides.ts";

/** What jpeg-js may take for a pixel: coefficients, planes and the result. */
const bytesAPixel = 20;

/** Pixels of a JPEG, RGB. */
export function decodeJpeg(bytes: Uint8Array, maxPixels: number): Image {
  const { width, height, orientation } = readMarkers(bytes);
  checkSides(width, height, maxPixels);
  const decoded = decode(bytes, {
    useTArray: true,
    formatAsRGBA: false,
    tolerantDecoding: false,
    maxResolutionInMP: maxPixels / 1e6,
    maxMemoryUsageInMB: 64 + (bytesAPixel * width * height) / 2 ** 20,
  });
  if (decoded.width !== width || decoded.height !== height || decoded.data.length !== width * height * 3)
    throw new ImageError("the JPEG has two headers, or its pixels are not all there");
  return turn({ width, height, channels: 3, data: decoded.data }, orientation);
}

/** Sides from the first frame header, and the orientation (1 to 8, 1 upright) from EXIF. */
function readMarkers(bytes: Uint8Array): { width: number; height: number; orientation: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let orientation = 1;
  for (let at = 2; at + 9 <= bytes.length;) {
    if (bytes[at] !== 0xff) throw new ImageError(`byte ${at} of the JPEG is no marker`);
    const marker = bytes[at + 1] as number;
    // Fill bytes, and markers without a length.
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    const length = view.getUint16(at + 2);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7), orientation };
    if (marker === 0xda || marker === 0xd9) break;
    if (marker === 0xe1) orientation = readOrientation(bytes.subarray(at + 4, at + 2 + length)) ?? orientation;
    at += 2 + length;
  }
  throw new ImageError("the JPEG has no frame header");
}

/** The orientation in an EXIF block; undefined when it has none or is damaged, which does not spoil the picture. */
function readOrientation(block: Uint8Array): number | undefined {
  if (block.length < 14 || String.fromCharCode(...block.subarray(0, 6)) !== "Exif\0\0") return undefined;
  const view = new DataView(block.buffer, block.byteOffset + 6, block.length - 6);
  const little = view.getUint16(0) === 0x4949;
  const entries = view.getUint32(4, little);
  if (entries + 2 > view.byteLength) return undefined;
  const count = view.getUint16(entries, little);
  for (let i = 0; i < count; i++) {
    const at = entries + 2 + 12 * i;
    if (at + 12 > view.byteLength) return undefined;
    if (view.getUint16(at, little) !== 0x0112) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : undefined;
  }
  return undefined;
}

/** `image` brought upright. From 5 on rows and columns change places. */
function turn(image: Image, orientation: number): Image {
  if (orientation === 1) return image;
  const { width, height, channels, data } = image;
  const swapped = orientation >= 5;
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBottom = [3, 4, 6, 7].includes(orientation);
  const size = swapped ? { width: height, height: width } : { width, height };
  const turned = new Uint8Array(data.length);
  let to = 0;
  for (let y = 0; y < size.height; y++)
    for (let x = 0; x < size.width; x++) {
      const [column, row] = swapped ? [y, x] : [x, y];
      const from =
        ((fromBottom ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column)) * channels;
      for (let c = 0; c < channels; c++) turned[to++] = data[from + c] as number;
    }
  return { ...size, channels, data: turned };
}
