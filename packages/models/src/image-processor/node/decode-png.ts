/** PNG through pngjs, which trusts what a header says: here the header is read first. */

import { inflateSync } from "node:zlib";
import { PNG } from "pngjs";
import { ImageError } from "../error.ts";
import type { Image } from "../image.ts";
import { checkSides } from "./check-sides.ts";

/** What a header says. */
interface Header {
  readonly width: number;
  readonly height: number;
  /** Bits a channel. */
  readonly depth: number;
  readonly colour: number;
  readonly interlaced: boolean;
}

/** Colour types of the format. */
const gray = 0;
const rgb = 2;
const palette = 3;
const grayAlpha = 4;
const rgba = 6;
const channelsOf: Readonly<Record<number, number>> = { [gray]: 1, [rgb]: 3, [palette]: 1, [grayAlpha]: 2, [rgba]: 4 };

/** First column, first row, column step and row step of the seven passes of an interlaced picture. */
const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/** Pixels of a PNG: RGB, or RGBA when the file has transparency that Pillow would see. */
export function decodePng(bytes: Uint8Array, maxPixels: number): Image {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = readHeader(buffer);
  const { width, height, depth, colour, interlaced } = header;
  checkSides(width, height, maxPixels);
  const chunks = readChunks(buffer);
  // pngjs unpacks an interlaced picture to whatever it holds; a megabyte could hold a gigabyte.
  if (interlaced) checkUnpacked(Buffer.concat(chunks.data), interlacedBytes(header));
  // At 16 bits pngjs would scale to 8 by rounding; unscaled it gives the values as they are.
  const png = PNG.sync.read(buffer, { skipRescale: depth === 16 } as object);
  const values = png.data as Uint8Array | Uint16Array;
  if (png.width !== width || png.height !== height || values.length !== width * height * 4)
    throw new ImageError("the PNG has two headers, or its pixels are not all there");
  const { transparency } = chunks;
  // RGB with one colour made transparent is RGB to Pillow, the colour as it is.
  const hasAlpha = colour === grayAlpha || colour === rgba || (transparency !== undefined && colour !== rgb);
  const channels = hasAlpha ? 4 : 3;
  const shift = depth === 16 ? 8 : 0;
  const data = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < values.length; from += 4, to += channels)
    for (let c = 0; c < channels; c++) data[to + c] = (values[from + c] as number) >> shift;
  if (transparency && (colour === gray || colour === rgb))
    restore(data, channels, values, keyColour(transparency, header));
  return { width, height, channels, data };
}

function checkUnpacked(packed: Buffer, most: number): void {
  try {
    inflateSync(packed, { maxOutputLength: most });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE") throw error;
    throw new ImageError(`the PNG unpacks to more than the ${most} bytes of its size`);
  }
}

/** The one transparent colour of a gray or RGB picture, at 8 bits. */
function keyColour(transparency: Buffer, { depth, colour }: Header): number[] {
  const wanted = colour === gray ? 2 : 6;
  if (transparency.length < wanted) throw new ImageError("the transparent colour of the PNG is cut off");
  return [0, 1, 2].map((c) => {
    const sample = transparency.readUInt16BE(colour === gray ? 0 : 2 * c);
    return depth === 16 ? sample >> 8 : (sample * 255) / (2 ** depth - 1);
  });
}

/** Gives transparent pixels, which pngjs makes black, their colour back. */
function restore(data: Uint8Array, channels: number, values: ArrayLike<number>, colour: readonly number[]): void {
  for (let i = 0; i * 4 < values.length; i++) if (values[i * 4 + 3] === 0) data.set(colour, i * channels);
}

function readHeader(buffer: Buffer): Header {
  if (buffer.length < 33 || buffer.toString("latin1", 12, 16) !== "IHDR") throw new ImageError("the PNG has no header");
  return {
    width: buffer.readUInt32BE(16),
    height: buffer.readUInt32BE(20),
    depth: buffer.readUInt8(24),
    colour: buffer.readUInt8(25),
    interlaced: buffer.readUInt8(28) !== 0,
  };
}

function readChunks(buffer: Buffer): { data: Buffer[]; transparency: Buffer | undefined } {
  const data: Buffer[] = [];
  let transparency: Buffer | undefined;
  for (let at = 8; at + 12 <= buffer.length;) {
    const length = buffer.readUInt32BE(at);
    const type = buffer.toString("latin1", at + 4, at + 8);
    if (type === "IHDR" && at !== 8) throw new ImageError("the PNG has two headers");
    const content = buffer.subarray(at + 8, at + 8 + length);
    if (type === "IDAT") data.push(content);
    if (type === "tRNS") transparency = content;
    at += length + 12;
  }
  return { data, transparency };
}

/** Bytes of all passes, each row with its filter byte. */
function interlacedBytes({ width, height, depth, colour }: Header): number {
  const bits = depth * (channelsOf[colour] ?? 4);
  return passes.reduce((sum, [left, top, across, down]) => {
    const columns = Math.ceil(Math.max(0, width - left) / across);
    const rows = Math.ceil(Math.max(0, height - top) / down);
    return sum + (columns > 0 ? rows * (1 + Math.ceil((columns * bits) / 8)) : 0);
  }, 0);
}
