/** A strip as a PNG file. */
import { PNG } from "pngjs";
import type { Strip } from "../strip.ts";

/** The bytes of a PNG, grayscale or RGB as the strip is. */
export function encodePng({ width, height, channels, data }: Strip): Uint8Array {
  const colorType = channels === 1 ? 0 : 2;
  const png = new PNG({ width, height, colorType, inputColorType: colorType, inputHasAlpha: false, bitDepth: 8 });
  png.data = Buffer.from(data.buffer, data.byteOffset, data.length);
  return PNG.sync.write(png, { colorType, inputColorType: colorType, inputHasAlpha: false, bitDepth: 8 });
}
