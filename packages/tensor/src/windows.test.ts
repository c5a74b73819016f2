/**
 * Tensors larger than one binding: on a device that plans with windows of 4 KiB, every op gives the bits that it gives
 * with the adapter's own limits.
 */
import { afterAll, beforeAll } from "vitest";
import { Random } from "./cases.ts";
import { DeviceError, OutOfMemoryError } from "./errors.ts";
import type { Device } from "./gpu/device.ts";
import { openDevice } from "./gpu/open-device.ts";
import { grad } from "./grad.ts";
import { binary } from "./ops/binary.ts";
import { cast } from "./ops/cast.ts";
import { compare } from "./ops/compare.ts";
import { concat } from "./ops/concat.ts";
import { arange, full, tensor } from "./ops/create.ts";
import { cumsum } from "./ops/cumsum.ts";
import { expand, sumTo } from "./ops/expand.ts";
import { gatherRows, scatterAddRows } from "./ops/gather.ts";
import { matmul } from "./ops/matmul.ts";
import { permute, slice } from "./ops/movement.ts";
import { max, sum } from "./ops/reduce.ts";
import { reshape } from "./ops/reshape.ts";
import { softmax } from "./ops/softmax.ts";
import { unary } from "./ops/unary.ts";
import { where } from "./ops/where.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { expect, test } from "./testing.ts";

const WINDOW = 4096;

let small: Device;
beforeAll(async () => {
  small = await openDevice({ limits: { maxStorageBufferBindingSize: WINDOW } });
});
afterAll(() => small.destroy());

/** Each takes noise and gives one tensor; 3,300 f32 elements take four windows, 2,500 three. */
const ops: Record<string, (random: Random) => Tensor> = {
  "a constant": ({ device }) => full(device, [3300], 2.5),
  "a range": ({ device }) => arange(device, 0, 3300),
  "a unary op, four elements at a time": (random) => unary.exp(random.normal([25, 132])),
  "a unary op, one element at a time": (random) => unary.exp(random.normal([3301])),
  "a binary op": (random) => binary.sub(random.normal([3300]), random.normal([3300])),
  "a binary op with broadcasting": (random) => binary.mul(random.normal([50, 66]), random.normal([66])),
  "a binary op of bf16 and f32": (random) => binary.add(random.normal([3300], 1, "bf16"), random.normal([3300])),
  "a comparison": (random) => compare.lt(random.normal([2500]), random.normal([2500])),
  "a choice": (random) =>
    where(compare.gt(random.normal([2500]), full(random.device, [2500], 0)), random.normal([2500]), 7),
  "a sum of all": (random) => sum(random.normal([3300])),
  "sums of rows": (random) => sum(random.normal([33, 100]), -1),
  "sums of columns": (random) => sum(random.normal([33, 100]), 0),
  "a maximum": (random) => max(random.normal([33, 100]), 0),
  "a running sum": (random) => cumsum(random.normal([2, 1650]), 1),
  "a softmax": (random) => softmax(random.normal([5, 660])),
  "a product of matrices, four elements at a time": (random) =>
    matmul(random.normal([48, 64]), random.normal([64, 60])),
  "a product of matrices, one element at a time": (random) => matmul(random.normal([40, 41]), random.normal([41, 39])),
  "a product with a transposed bf16 matrix": (random) =>
    matmul(random.normal([33, 96]), random.normal([64, 96], 1, "bf16"), { transposeB: true }),
  "a small product of matrices": (random) => matmul(random.normal([2, 1200]), random.normal([1200, 2])),
  "rows by index": (random) => gatherRows(random.normal([100, 33]), [99, 0, 31, 32, 62, 98]),
  "rows added by index": (random) => scatterAddRows(100, [99, 0, 31, 0, 62], random.normal([5, 33])),
  "another order of axes": (random) => permute(random.normal([10, 15, 22]), [2, 0, 1]),
  "a slice with a step": (random) => slice(random.normal([3300]), [null, null, -3]),
  "a longer axis": (random) => expand(random.normal([3, 1, 11]), [3, 100, 11]),
  "a sum to a shorter axis": (random) => sumTo(random.normal([3, 100, 11]), [3, 1, 11]),
  "two tensors in one": (random) => concat([random.normal([20, 70]), random.normal([25, 70])]),
  "another shape": (random) => unary.neg(reshape(random.normal([33, 100]), [-1, 3])),
  "bf16 out of f32": (random) => cast(random.normal([4999]), "bf16"),
  "f16 out of f32": (random) => cast(random.normal([4999]), "f16"),
  "f32 out of bf16": (random) => cast(random.normal([4999], 1, "bf16"), "f32"),
  "whole numbers": (random) => binary.add(random.integers([3300], -9, 9), random.integers([3300], -9, 9)),
  "a gradient": (random) => {
    const x = requireGrad(random.normal([33, 100]));
    return grad(sum(binary.mul(unary.tanh(x), random.normal([100]))), [x])[0] as Tensor;
  },
};

test.for(Object.entries(ops))("%s is the same through windows", async ([, op], { random }) => {
  const [got, want] = [op(new Random(small)), op(random)];
  expect(got.shape).toEqual(want.shape);
  expect(await got.read()).toEqual(await want.read());
});

test("a large product that has no vectors to read adds in another order, to the same sums", async ({ random }) => {
  const [a, b] = [random.normal([47, 65]), random.normal([65, 41])];
  const [ofA, ofB] = [tensor(small, await a.read(), a), tensor(small, await b.read(), b)];
  await expect(matmul(ofA, ofB)).toBeClose(matmul(a, b), { absolute: 2e-5 });
});

test("every element on both sides of a border is written and read where it belongs", async () => {
  // 4096 bytes are 1024 words: the borders are at 1024, 2048 and 3072.
  for (const n of [1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073]) {
    const x = tensor(
      small,
      Float32Array.from({ length: n }, (_, i) => i),
    );
    await expect(binary.add(x, 1)).toBeClose(Array.from({ length: n }, (_, i) => i + 1));
    const half = tensor(
      small,
      Float32Array.from({ length: 2 * n }, (_, i) => i % 250),
      { dtype: "bf16" },
    );
    await expect(binary.add(half, 1)).toBeClose(Array.from({ length: 2 * n }, (_, i) => (i % 250) + 1));
  }
});

test("a tensor that takes more bindings than the adapter allows is an error that names the kernel", () => {
  const most = small.limits.maxStorageBuffersPerShaderStage;
  const words = (most * WINDOW) / 4;
  const x = full(small, [words], 1);
  expect(() => unary.exp(x)).toThrow(
    new DeviceError(
      `exp needs ${2 * most} storage bindings (in_x ${most}, y ${most}), the adapter allows ${most}: ` +
        `a tensor takes one for each ${WINDOW} bytes`,
    ),
  );
  expect(() => full(small, [words + 1], 1)).toThrow(/^fill needs \d+ storage bindings \(y \d+\)/);
});

test("a tensor larger than the largest buffer is out of memory, with the bytes asked and live", async () => {
  const device = await openDevice({ limits: { maxBufferSize: 2 ** 20 } });
  const held = full(device, [1000], 1);
  let thrown: unknown;
  try {
    full(device, [2 ** 18 + 1], 1);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(OutOfMemoryError);
  expect(thrown).toMatchObject({ asked: 2 ** 20 + 4, live: 4000 });
  expect((thrown as Error).message).toMatch(
    /^fill asks for 1048580 bytes; the largest buffer .* has 1048576 \(4000 are live\)/,
  );
  expect(await sum(full(device, [2 ** 18], 1)).item()).toBe(2 ** 18);
  expect(held.isDisposed).toBe(false);
  device.destroy();
});

test("160 MiB in one tensor: more than the largest binding of lavapipe", async ({ device }) => {
  const n = 40 * 2 ** 20;
  const x = full(device, [n], 0.5);
  const y = binary.add(x, 1);
  x.dispose();
  expect(await sum(y).item()).toBe(1.5 * n);
  expect(Array.from(await slice(y, [n - 3, n]).read())).toEqual([1.5, 1.5, 1.5]);
  const row = matmul(full(device, [1, 1024], 1), reshape(y, [1024, n / 1024]));
  expect(await max(row).item()).toBe(1536);
  expect(await sum(row).item()).toBe(1.5 * n);
  for (const t of [y, row]) t.dispose();
  device.trim();
});
