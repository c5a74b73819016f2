/** Rows of a tensor as tensors of their own, on the same memory. */
import { afterAll, beforeAll } from "vitest";
import { Random } from "./cases.ts";
import type { Device } from "./gpu/device.ts";
import { openDevice } from "./gpu/open-device.ts";
import { assign } from "./ops/assign.ts";
import { binary } from "./ops/binary.ts";
import { cast } from "./ops/cast.ts";
import { matmul } from "./ops/matmul.ts";
import { slice } from "./ops/movement.ts";
import { sum } from "./ops/reduce.ts";
import type { Tensor } from "./tensor.ts";
import { expect, test } from "./testing.ts";

let small: Device;
beforeAll(async () => {
  small = await openDevice({ limits: { maxStorageBufferBindingSize: 4096 } });
});
afterAll(() => small.destroy());

test.for(["f32", "bf16", "f16"] as const)(
  "rows in %s are read where they lie, without memory of their own",
  async (dtype, { random }) => {
    const x = random.normal([385, 3], 1, dtype);
    for (const [begin, end] of [
      [0, 385],
      [128, 385],
      [256, 384],
      [256, 257 + 127],
      [385, 385],
    ] as const) {
      const { live } = random.device.memory();
      const part = x.rows(begin, end);
      expect(random.device.memory().live).toBe(live);
      const want = (await x.read()).slice(3 * begin, 3 * end);
      await expect(part).toBeClose({ shape: [end - begin, 3], values: want });
      await expect(binary.mul(part, 2)).toBeClose({ shape: [end - begin, 3], values: want.map((v) => 2 * v) });
      await expect(part.alias([part.size])).toBeClose(want);
    }
  },
);

test("rows of rows count from the first of them", async ({ random }) => {
  const x = random.normal([64, 8]);
  await expect(x.rows(16, 64).rows(8, 24)).toBeClose(slice(x, [24, 40]));
});

test("rows that take several bindings are the same through windows", async ({ device }) => {
  const product = (r: Random): Tensor =>
    matmul(r.normal([7, 96]), r.normal([200, 96], 1, "bf16").rows(32, 160), { transposeB: true });
  expect(await product(new Random(small)).read()).toEqual(await product(new Random(device)).read());
  const total = (r: Random): Tensor => sum(r.normal([300, 32]).rows(10, 290), 0);
  expect(await total(new Random(small)).read()).toEqual(await total(new Random(device)).read());
});

test("a change of some rows changes these alone, and is a change of the whole", async ({ device, random }) => {
  for (const on of [device, small]) {
    for (const dtype of ["f32", "bf16"] as const) {
      const x = new Random(on).normal([300, 16], 1, dtype);
      const want = Array.from(await x.read());
      const y = new Random(on, 2).normal([120, 16]);
      const { version } = x.storage;
      assign(x.rows(64, 184), y);
      want.splice(64 * 16, 120 * 16, ...(await cast(y, dtype).read()));
      expect(Array.from(await x.read())).toEqual(want);
      expect(x.storage.version).toBe(version + 1);
    }
  }
  const x = random.normal([128, 1]);
  assign(x.rows(64, 128), x.rows(0, 64));
  await expect(slice(x, [64])).toBeClose(slice(x, [0, 64]));
});

test("the memory lives as long as the last of its rows", async () => {
  const device = await openDevice();
  const x = new Random(device).normal([128, 1]);
  const part = x.rows(64, 128);
  x.dispose();
  expect(device.memory().live).toBe(512);
  expect(await part.read()).toHaveLength(64);
  part.dispose();
  expect(device.memory().live).toBe(0);
  device.destroy();
});

test("rows that are not there, or where no binding can begin or end, are refused", ({ random }) => {
  expect(() => random.normal([4, 64]).rows(2, 5)).toThrow("rows: [4, 64] has no rows 2 to 5");
  expect(() => random.normal([4, 64]).rows(3, 2)).toThrow("rows: [4, 64] has no rows 3 to 2");
  expect(() => random.normal([4, 128]).rows(0.5, 1.5)).toThrow("rows: [4, 128] has no rows 0.5 to 1.5");
  expect(() => random.normal([]).rows(0, 0)).toThrow("rows: [] has no rows 0 to 0");
  expect(() => random.normal([4, 63]).rows(1, 2)).toThrow(
    "rows: row 1 of tensor [4, 63] f32 lies at byte 252, no multiple of 256",
  );
  expect(() => random.normal([4, 127], 1, "bf16").rows(0, 1)).toThrow(
    "rows: row 1 of tensor [4, 127] bf16 begins in the middle of a word",
  );
});
