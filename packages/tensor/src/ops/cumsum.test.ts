import fc from "fast-check";
import { anyDtype, type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { mapLines, noise, toleranceOf } from "../../test/tools/lines.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { cumsum } from "./cumsum.ts";
import { full, tensor } from "./create.ts";

function running(line: readonly number[]): number[] {
  let sum = 0;
  return line.map((x) => (sum += x));
}
const backwards = (line: readonly number[]): number[] => running(line.toReversed()).toReversed();

const withAxis = shapes()
  .filter((shape) => shape.length > 0)
  .chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })));

test("cumsum agrees with a plain loop along any axis, in 200 random shapes of every dtype, and so does its gradient", async ({
  device,
}) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(withAxis, anyDtype, seeds, async ([shape, axis], dtype, seed) => {
      const front = axis < 0 ? axis + shape.length : axis;
      const plain = noise(device, seed, shape, dtype);
      const x = upload(device, plain, dtype);
      const y = cumsum(x, axis);
      expect(y.dtype).toBe(dtype === "bool" ? "i32" : dtype);
      const { absolute, relative } = toleranceOf(dtype);
      await expect(y).toBeClose(mapLines(plain, front, running), { absolute: 2 * absolute, relative });
      if (dtype !== "f32") return;
      const leaf = requireGrad(x);
      const upstream = noise(device, seed + 1, shape, dtype);
      const [dx] = grad(cumsum(leaf, axis), [leaf], { cotangent: upload(device, upstream) }) as [Tensor];
      await expect(dx).toBeClose(mapLines(upstream, front, backwards), { absolute: 2e-6, relative: 1e-6 });
    }),
    { numRuns: 200, seed: 11 },
  );
});

/** Lengths around the lanes' runs and the chunks, and lines that lie apart. */
const large: readonly (readonly [shape: number[], axis: number])[] = [
  [[128], 0],
  [[3, 129], 1],
  [[2, 1023], 1],
  [[1025], 0],
  [[4095], 0],
  [[4097], 0],
  [[3, 8191], 1],
  [[100_003], 0],
  [[300_007], 0],
  [[4099, 2], 0],
  [[2, 5003, 3], 1],
  [[100, 1031], 0],
  [[70_001, 2], 1],
];

test.for(large)(
  "cumsum of %j along axis %i is exact for small integers, forwards and in the gradient",
  async ([shape, axis], { device }) => {
    const plain: Plain = {
      shape,
      values: noise(device, 2, shape, "i32").values,
    };
    await expect(cumsum(upload(device, plain, "i32"), axis)).toBeClose(mapLines(plain, axis, running));
    const x = requireGrad(full(device, shape, 0));
    const [dx] = grad(cumsum(x, axis), [x], { cotangent: upload(device, plain) }) as [Tensor];
    await expect(dx).toBeClose(mapLines(plain, axis, backwards));
  },
);

test("a long sum of floats stays as near as a pairwise sum, and has the same bits each time", async ({ device }) => {
  const plain = noise(device, 7, [100_003], "f32");
  const y = cumsum(upload(device, plain), 0);
  await expect(y).toBeClose(running(plain.values), { absolute: 5e-4, relative: 1e-6 });
  const again = await cumsum(upload(device, plain), 0).read();
  expect(again).toEqual(await y.read());
});

test("infinities and NaN reach what follows and nothing before", async ({ device }) => {
  for (const n of [10, 5000, 200_000]) {
    const row = new Float32Array(n).fill(1);
    row[n >> 1] = Infinity;
    row[n - 2] = -Infinity;
    await expect(cumsum(tensor(device, row), 0)).toBeClose(running([...row]));
  }
});

test("bf16 is added in f32 and rounded once", async ({ device }) => {
  const y = await cumsum(full(device, [1000], 1, "bf16"), 0).read();
  expect([y[0], y[255], y[999]]).toEqual([1, 256, 1000]);
});

test("cumsum has its slope for a gradient along every axis", async ({ random }) => {
  for (const axis of [0, 1, 2]) await checkGradients((x) => cumsum(x as Tensor, axis), [random.normal([3, 5, 2])]);
  await checkGradients((x) => cumsum(x as Tensor, 0), [random.normal([200])], { relative: 3e-2 });
});

test("an axis that does not exist is refused by name", ({ device }) => {
  expect(() => cumsum(full(device, [2, 3], 0), 2)).toThrow("cumsum: there is no axis 2 in a tensor of rank 2");
});
