import { afterAll } from "vitest";
import { at, build, counting, upload } from "../../test/tools/arrays.ts";
import { openDevice } from "../gpu/open-device.ts";
import { expect, test } from "../testing.ts";
import { arange, zeros } from "./create.ts";
import { place, stridedRead, stridedWrite } from "./strided.ts";

test("a walk reads by its strides, forwards, backwards and in place", async ({ device }) => {
  const x = arange(device, 0, 60);
  const walk = { shape: [3, 2, 4], strides: [20, 0, -3], offset: 11 };
  const want = build(walk.shape, ([i, , k]) => 11 + 20 * (i as number) - 3 * (k as number));
  await expect(stridedRead(x, walk)).toBeClose(want);
});

test("what is written by a walk is read by it, and the rest is left alone", async ({ device }) => {
  const walk = { shape: [2, 3], strides: [10, -2], offset: 5 };
  const y = zeros(device, [20], "i32");
  stridedWrite(y, upload(device, counting([2, 3]), "i32"), walk);
  await expect(stridedRead(y, walk)).toBeClose(counting([2, 3]));
  expect([...(await y.read())].filter((v) => v !== 0)).toHaveLength(6);
  expect(y.storage.version).toBe(1);
});

test("axes of length 1 and axes that lie end to end are merged, up to eight that do not", async ({ device }) => {
  const shape = [2, 1, 2, 2, 1, 2, 2, 2, 2, 2];
  const plain = counting(shape);
  const reversed = { shape: shape.toReversed(), strides: [1, 2, 4, 8, 16, 16, 32, 64, 128, 128], offset: 0 };
  const y = stridedRead(upload(device, plain), reversed);
  await expect(y).toBeClose(build(reversed.shape, (index) => at(plain, index.toReversed())));
  const ends = {
    shape: Array<number>(10).fill(2),
    strides: Array.from({ length: 10 }, (_, d) => 2 ** (9 - d)),
    offset: 0,
  };
  await expect(stridedRead(arange(device, 0, 1024), ends)).toBeClose(
    build(ends.shape, (index) => index.reduce((at, i) => 2 * at + i, 0)),
  );
  const overlapping = { shape: [4, 3], strides: [1, 1], offset: 2 };
  await expect(stridedRead(arange(device, 0, 9), overlapping)).toBeClose(
    build([4, 3], ([i, j]) => 2 + (i as number) + (j as number)),
  );
  const nine = { shape: Array<number>(9).fill(2), strides: Array.from({ length: 9 }, (_, d) => 2 ** d), offset: 0 };
  expect(() => stridedRead(arange(device, 0, 512), nine)).toThrow(
    "strided.read: [2, 2, 2, 2, 2, 2, 2, 2, 2] has more than 8 axes that cannot be merged",
  );
});

test("16-bit elements cannot be written alone, but placed they can be", async ({ device }) => {
  const x = upload(device, counting([3]), "bf16");
  const walk = { shape: [3], strides: [2], offset: 1 };
  expect(() => stridedWrite(zeros(device, [8], "bf16"), x, walk)).toThrow("strided.write: bf16 elements share words");
  const y = place(x, [7], walk, 0.5);
  expect(y.dtype).toBe("bf16");
  await expect(y).toBeClose([0.5, 1, 0.5, 2, 0.5, 3, 0.5]);
});

const small = openDevice({ limits: { maxStorageBufferBindingSize: 256 } });
afterAll(async () => (await small).destroy());

test("tensors larger than one binding are read and written across their windows", async () => {
  const device = await small;
  const n = 300;
  const backwards = { shape: [n], strides: [-1], offset: n - 1 };
  for (const dtype of ["f32", "bf16"] as const) {
    const plain = counting([n]).values.map((v) => v % 251);
    const x = upload(device, { shape: [n], values: plain }, dtype);
    await expect(stridedRead(x, backwards)).toBeClose(plain.toReversed());
    await expect(place(x, [n], backwards)).toBeClose(plain.toReversed());
  }
});
