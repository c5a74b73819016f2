import { expect, test } from "vitest";
import { fromBf16, toBf16 } from "./bf16.ts";

test("rounds to the nearest, halves to even, and keeps what is no number", () => {
  const values = [1, -2.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 3.4e38, -3.4e38, Infinity, NaN, -0];
  const back = [...fromBf16(toBf16(Float32Array.from(values)))];
  expect(back).toEqual([1, -2.5, 1, 1 + 2 ** -6, 1 + 2 ** -7, Infinity, -Infinity, Infinity, NaN, -0]);
});

test("every bf16 that is a number comes back as it was", () => {
  const all = Uint16Array.from({ length: 65_536 }, (_, i) => i).filter((half) => (half & 0x7fff) <= 0x7f80);
  expect(Buffer.from(toBf16(fromBf16(all)).buffer).equals(Buffer.from(all.buffer))).toBe(true);
});
