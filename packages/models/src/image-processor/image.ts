/** Pictures as bytes, row by row from the top left. */

import { ImageError } from "./error.ts";

/** A picture of 8 bits a channel. A browser's `ImageData` is one, with channels 4. */
export interface Image {
  readonly width: number;
  readonly height: number;
  /** 1: gray, 2: gray and alpha, 3: RGB, 4: RGBA, not premultiplied. */
  readonly channels: 1 | 2 | 3 | 4;
  /** height * width * channels values. */
  readonly data: Uint8Array | Uint8ClampedArray;
}

/** A picture of three channels. */
export interface RgbImage extends Image {
  readonly channels: 3;
  readonly data: Uint8Array;
}

/** What becomes of transparency: blended over white (transformers 5), or the alpha channel dropped (transformers 4). */
export type AlphaRule = "white" | "drop";

/** @throws {ImageError} when the sides or the number of values are not those of a picture */
function checkImage({ width, height, channels, data }: Image): void {
  if (
    !Number.isInteger(width) ||
    !Number.isInteger(height) ||
    width < 1 ||
    height < 1 ||
    ![1, 2, 3, 4].includes(channels)
  )
    throw new ImageError(`a picture of ${width}x${height} with ${channels} channels`);
  if (data.length !== width * height * channels)
    throw new ImageError(
      `${width}x${height} with ${channels} channels needs ${width * height * channels} values, not ${data.length}`,
    );
}

/** `image` with three channels: gray three times, alpha by `alpha`. RGB comes back as it is, sharing its bytes. */
export function toRgb(image: Image, alpha: AlphaRule = "white"): RgbImage {
  checkImage(image);
  const { width, height, channels, data } = image;
  if (channels === 3) {
    return { width, height, channels, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  }
  const rgb = new Uint8Array(width * height * 3);
  const hasAlpha = channels === 2 || channels === 4;
  const isGray = channels < 3;
  for (let from = 0, to = 0; from < data.length; from += channels, to += 3) {
    const opacity = hasAlpha && alpha === "white" ? (data[from + channels - 1] as number) : 255;
    for (let c = 0; c < 3; c++) rgb[to + c] = overWhite(data[isGray ? from : from + c] as number, opacity);
  }
  return { width, height, channels: 3, data: rgb };
}

/** Pillow's rule, in integers: the value at `opacity` of 255 over 255, rounded. */
function overWhite(value: number, opacity: number): number {
  const sum = (value * opacity + 255 * (255 - opacity)) * 128 + (128 << 7);
  return ((sum >> 8) + sum) >> 15;
}
