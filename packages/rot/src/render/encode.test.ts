import { expect, test } from "vitest";
import { encodeExact } from "./encode.ts";
import type { Strip } from "./strip.ts";

/** A strip whose pixel at x is x + 1, white below 8 rows. */
function ramp(width: number, height = 32, channels: 1 | 3 = 1): Strip {
  const data = new Uint8Array(width * height * channels).fill(255);
  for (let i = 0; i < width * 8 * channels; i++) data[i] = (Math.floor(i / channels) % width) % 200;
  return { width, height, channels, data, missing: 0 };
}

test.for([
  [1, 1],
  [15, 1],
  [47, 1],
  [48, 2],
  [80, 2],
  [112, 4],
  [1300, 41],
  [1762, 55],
  [3198, 100],
  [4309, 135],
])("a strip of %i pixels makes %i latents", ([width, latents]) => {
  expect(encodeExact(ramp(width!)).cells).toBe(latents);
});

test("pixels stay as they are, white fills up on the right", () => {
  const { pieces, cutInk } = encodeExact(ramp(50));
  expect(pieces).toHaveLength(1);
  const [piece] = pieces;
  expect([piece!.width, piece!.height]).toEqual([64, 32]);
  expect([...piece!.data.subarray(64, 128)]).toEqual([...ramp(50).data.subarray(50, 100), ...Array(14).fill(255)]);
  expect(cutInk).toBe(0);
});

test("rounding down cuts on the right and says how much ink was lost", () => {
  expect(encodeExact(ramp(40))).toMatchObject({ cells: 1, cutInk: 8 });
  const padded = ramp(40);
  for (let row = 0; row < 8; row++) padded.data.fill(255, row * 40 + 30, row * 40 + 40);
  expect(encodeExact(padded)).toMatchObject({ cells: 1, cutInk: 0 });
});

test("wide strips come in pieces, in reading order, without a gap", () => {
  const strip = ramp(1000);
  const { pieces, cells } = encodeExact(strip, { maxColumns: 10 });
  expect(pieces.map(({ width }) => width)).toEqual([320, 320, 320, 32]);
  expect(cells).toBe(31);
  const row = pieces.flatMap(({ data, width }) => [...data.subarray(width, 2 * width)]);
  expect(row).toEqual([...strip.data.subarray(1000, 1992)]);
});

test("three channels, other cells and other heights", () => {
  const strip = ramp(50, 40, 3);
  const { pieces, cells } = encodeExact(strip, { cell: 16, background: [1, 2, 3] });
  expect(cells).toBe(9);
  expect([pieces[0]!.width, pieces[0]!.height, pieces[0]!.channels]).toEqual([48, 48, 3]);
  expect([...pieces[0]!.data.subarray(40 * 48 * 3, 40 * 48 * 3 + 4)]).toEqual([1, 2, 3, 1]);
});

test("options out of range are refused", () => {
  expect(() => encodeExact(ramp(10), { cell: 0 })).toThrow("cell is 0");
  expect(() => encodeExact(ramp(10), { maxColumns: 1.5 })).toThrow("maxColumns is 1.5");
  expect(() => encodeExact({ ...ramp(1), width: 0 })).toThrow("empty");
});
