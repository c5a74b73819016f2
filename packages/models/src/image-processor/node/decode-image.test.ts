import { readFileSync } from "node:fs";
import { crc32, deflateSync } from "node:zlib";
import { expect, test } from "vitest";
import { mutate, random } from "../../../test/tools/mutate.ts";
import { chunk, end, header, png, type PngSpec } from "../../../test/tools/png.ts";
import { ImageError } from "../error.ts";
import type { Image } from "../image.ts";
import { decodeImage } from "./decode-image.ts";

const jpeg = (name: string) => readFileSync(new URL(`../../../test/data/jpeg/${name}.jpg`, import.meta.url));
const pixel = ({ width, channels, data }: Image, x: number, y: number) =>
  Array.from(data.slice((y * width + x) * channels, (y * width + x + 1) * channels));

/** The picture, or undefined for our own error; any other error is thrown. */
function tried(bytes: Uint8Array): Image | undefined {
  try {
    return decodeImage(bytes, { maxPixels: 1 << 20 });
  } catch (error) {
    if (error instanceof ImageError) return undefined;
    throw error;
  }
}

const kinds = ([0, 2, 3, 4, 6] as const).flatMap((colour) =>
  (colour === 0 ? [1, 2, 4, 8, 16] : colour === 3 ? [1, 2, 4, 8] : [8, 16]).flatMap((depth) =>
    [false, true].map((interlaced) => ({ colour, depth, interlaced })),
  ),
);
const palette = Array.from({ length: 768 }, (_, i) => (i * 37) % 256);

function spec({ colour, depth, interlaced }: (typeof kinds)[number], width = 13, height = 11): PngSpec {
  const sample = (x: number, y: number, c: number) => (x * 7919 + y * 104729 + c * 31 + x * y * 613) % 2 ** depth;
  return {
    width,
    height,
    depth,
    colour,
    interlaced,
    sample,
    ...(colour === 3 && { palette: palette.slice(0, 3 * 2 ** depth) }),
  };
}

test.for(kinds)("PNG of colour type $colour, $depth bits, interlaced: $interlaced", (kind) => {
  const { colour, depth } = kind;
  const one = spec(kind);
  const image = decodeImage(png(one));
  const channels = colour === 4 || colour === 6 ? 4 : 3;
  expect(image).toMatchObject({ width: 13, height: 11, channels });
  const eight = (value: number) => (depth === 16 ? value >> 8 : (value * 255) / (2 ** depth - 1));
  for (let y = 0; y < 11; y++)
    for (let x = 0; x < 13; x++) {
      const s = [0, 1, 2, 3].map((c) => one.sample(x, y, c));
      const index = 3 * (s[0] as number);
      const wanted =
        colour === 3
          ? palette.slice(index, index + 3)
          : (colour === 0 || colour === 4 ? [s[0], s[0], s[0], s[1]] : s)
              .slice(0, channels)
              .map((v) => eight(v as number));
      expect(pixel(image, x, y), `${x}, ${y}`).toEqual(wanted);
    }
});

test("tRNS makes gray and palette pictures transparent; on RGB it is left aside, as Pillow does", () => {
  const base = { width: 2, height: 1, depth: 8 };
  const palettePng = png({ ...base, colour: 3, sample: (x) => x, palette: [9, 8, 7, 6, 5, 4], transparency: [100] });
  const grayPng = png({ ...base, colour: 0, sample: (x) => x, transparency: [0, 1] });
  const rgbPng = png({ ...base, colour: 2, sample: (x) => x, transparency: [0, 1, 0, 1, 0, 1] });
  expect(Array.from(decodeImage(palettePng).data)).toEqual([9, 8, 7, 100, 6, 5, 4, 255]);
  expect(pixel(decodeImage(grayPng), 0, 0)).toEqual([0, 0, 0, 255]);
  expect(pixel(decodeImage(grayPng), 1, 0)).toEqual([1, 1, 1, 0]);
  expect(Array.from(decodeImage(rgbPng).data)).toEqual([0, 0, 0, 1, 1, 1]);
});

/** Three pixels of each as Pillow decodes it: the first, that at row 5 and column 7, the last. */
const jpegs = {
  progressive: [
    [0, 0, 2],
    [84, 100, 97],
    [226, 218, 239],
  ],
  gray: [
    [0, 0, 0],
    [95, 95, 95],
    [223, 223, 223],
  ],
  cmyk: [
    [0, 0, 0],
    [84, 99, 96],
    [227, 222, 238],
  ],
  exif: [
    [1, 217, 90],
    [61, 80, 76],
    [226, 0, 151],
  ],
  subsampled: [
    [0, 1, 0],
    [82, 101, 97],
    [230, 216, 239],
  ],
};

test.for(Object.entries(jpegs))("JPEG, %s", ([name, wanted]) => {
  const image = decodeImage(jpeg(name));
  expect(image.channels).toBe(3);
  expect([image.width, image.height]).toEqual(name === "exif" ? [12, 20] : [20, 12]);
  const found = [pixel(image, 0, 0), pixel(image, 7, 5), pixel(image, image.width - 1, image.height - 1)];
  // Libraries differ by a step, and in how they smooth subsampled colour.
  const tolerance = name === "subsampled" ? 4 : 1;
  for (const [i, values] of found.entries())
    for (const [c, value] of values.entries())
      expect(Math.abs(value - (wanted[i]?.[c] as number)), `${i}, ${c}`).toBeLessThanOrEqual(tolerance);
});

test("all orientations bring the same picture upright", () => {
  const stored = jpeg("exif");
  // The entry's tag, 0x0112, type and count, in the order of bytes that Pillow writes.
  const at = stored.indexOf(Buffer.from([0x01, 0x12, 0, 3, 0, 0, 0, 1]));
  expect(at).toBeGreaterThan(0);
  const turned = (orientation: number) => {
    const bytes = Buffer.from(stored);
    bytes[at + 9] = orientation;
    return decodeImage(bytes);
  };
  const upright = turned(1);
  const [w, h] = [upright.width - 1, upright.height - 1];
  // Where the first pixel of each turned picture stands in the stored one.
  const corners = [
    [0, 0],
    [w, 0],
    [w, h],
    [0, h],
    [0, 0],
    [0, h],
    [w, h],
    [w, 0],
  ] as const;
  for (const [i, [x, y]] of corners.entries()) {
    const image = turned(i + 1);
    expect([image.width, image.height]).toEqual(i < 4 ? [w + 1, h + 1] : [h + 1, w + 1]);
    expect(pixel(image, 0, 0), `orientation ${i + 1}`).toEqual(pixel(upright, x, y));
    const [dx, dy] = i < 4 ? [x ? -1 : 1, 0] : [0, y ? -1 : 1];
    expect(pixel(image, 1, 0)).toEqual(pixel(upright, x + dx, y + dy));
  }
});

test("a header of 60000x60000 is refused before anything is allocated", () => {
  for (const interlaced of [false, true]) {
    const bomb = Buffer.concat([
      header(60_000, 60_000, 8, 6, interlaced),
      chunk("IDAT", deflateSync(Buffer.alloc(9))),
      end,
    ]);
    expect(() => decodeImage(bomb, { name: "bomb.png" })).toThrow(
      new ImageError("bomb.png: 60000x60000 is more than the 67108864 pixels that a picture may have; make it smaller"),
    );
  }
  const sides = Buffer.from(jpeg("gray"));
  const frame = sides.indexOf(Buffer.from([0xff, 0xc0]));
  sides.writeUInt16BE(60_000, frame + 5);
  sides.writeUInt16BE(60_000, frame + 7);
  expect(() => decodeImage(sides)).toThrow(/60000x60000 is more than/);
  expect(() => decodeImage(png(spec({ colour: 2, depth: 8, interlaced: false })), { maxPixels: 142 })).toThrow(
    /13x11 is more/,
  );
});

test("an interlaced picture may not unpack to more than its size", () => {
  const bomb = Buffer.concat([header(8, 8, 8, 6, true), chunk("IDAT", deflateSync(Buffer.alloc(1 << 22))), end]);
  expect(() => decodeImage(bomb)).toThrow(/unpacks to more than the 271 bytes/);
});

test("other files are named", () => {
  const file = (text: string) => Buffer.from(text, "latin1");
  expect(() => decodeImage(file("RIFF\0\0\0\0WEBPVP8 "), { name: "a.webp" })).toThrow(
    "a.webp: this is a WebP file; PNG and JPEG can be read",
  );
  expect(() => decodeImage(file("GIF89a"))).toThrow(/a GIF file/);
  expect(() => decodeImage(file("\0\0\0\x18ftypheic"))).toThrow(/a HEIC file/);
  expect(() => decodeImage(file(""))).toThrow(/an empty file/);
  expect(() => decodeImage(file("hello"))).toThrow(/no picture file we know/);
});

/** Puts the checksums of all chunks right again, so that damage reaches what reads the chunks. */
function mend(bytes: Uint8Array): Uint8Array {
  const buffer = Buffer.from(bytes);
  for (let at = 8; at + 12 <= buffer.length;) {
    const length = buffer.readUInt32BE(at);
    if (at + 12 + length > buffer.length) break;
    buffer.writeUInt32BE(crc32(buffer.subarray(at + 4, at + 8 + length)), at + 8 + length);
    at += 12 + length;
  }
  return buffer;
}

test("5,000 damaged PNGs give a picture or an ImageError", () => {
  const next = random(7);
  const whole = kinds.map((kind) => png(spec(kind)));
  let good = 0;
  for (let i = 0; i < 5000; i++) {
    const damaged = mutate(whole[i % whole.length] as Buffer, next);
    const image = tried(i % 2 ? mend(damaged) : damaged);
    if (image) {
      good++;
      expect(image.data.length).toBe(image.width * image.height * image.channels);
    }
  }
  expect(good).toBeGreaterThan(30);
  expect(good).toBeLessThan(4000);
});

test("300 damaged JPEGs give a picture or an ImageError", () => {
  const next = random(11);
  const whole = Object.keys(jpegs).map(jpeg);
  let good = 0;
  for (let i = 0; i < 300; i++) if (tried(mutate(whole[i % whole.length] as Buffer, next))) good++;
  expect(good).toBeGreaterThan(30);
  expect(good).toBeLessThan(270);
});
