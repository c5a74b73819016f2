import { grad, requireGrad, ShapeError, tensor, zeros } from "@rot/tensor";
import { checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, dtypes, runs, shapeOf, toleranceOf, widths } from "../../test/tools/agree.ts";
import { cases } from "./layer-norm.cases.ts";
import { layerNorm } from "./layer-norm.ts";

checkOp(cases);

test("gains of the wrong length and whole numbers are refused before any GPU work", ({ device, random }) => {
  const x = random.normal([2, 16]);
  const [short, right] = [random.normal([8]), random.normal([16])];
  const of = { eps: 1e-6 };
  expect(() => layerNorm(x, short, right, of)).toThrow(
    new ShapeError("layerNorm: weight is [8], but the last axis of x [2, 16] is 16"),
  );
  expect(() => layerNorm(x, right, short, of)).toThrow("layerNorm: bias is [8]");
  expect(() => layerNorm(random.normal([]), right, right, of)).toThrow("x is a scalar");
  expect(() => layerNorm(x, right, zeros(device, [16], "i32"), of)).toThrow("bias is i32");
});

test("a constant row becomes the bias, however far from zero", async ({ device, random }) => {
  const bias = random.normal([36]);
  const x = tensor(device, new Float32Array(72).fill(12_345), { shape: [2, 36] });
  const y = await layerNorm(x, random.normal([36]), bias, { eps: 1e-5 }).read();
  const want = await bias.read();
  expect(y).toEqual(Float32Array.from([...want, ...want]));
});

test("a spread of one around ten thousand is normalised as well as f32 can tell it", async ({ device }) => {
  const width = 1000;
  const offsets = Float32Array.from({ length: width }, (_, i) => (i % 2 === 0 ? 1 : -1));
  const x = tensor(
    device,
    offsets.map((v) => v + 10_000),
    { shape: [1, width] },
  );
  const [one, none] = [tensor(device, Array(width).fill(1)), zeros(device, [width])];
  await expect(layerNorm(x, one, none, { eps: 0 })).toBeClose(offsets, { absolute: 1e-3 });
});

test("NaN and infinity spoil their own row and no other", async ({ device }) => {
  const values = Float32Array.from({ length: 5 * 12 }, (_, i) => 1 + (i % 3));
  values[12] = Number.NaN;
  values[3 * 12 + 5] = Number.POSITIVE_INFINITY;
  const x = tensor(device, values, { shape: [5, 12] });
  const gain = tensor(device, Array(12).fill(1));
  const y = await layerNorm(x, gain, gain, { eps: 1e-6 }).read();
  const clean = [0, 1, 2, 3, 4].map((row) => y.slice(12 * row, 12 * row + 12).every(Number.isFinite));
  expect(clean).toEqual([true, false, true, false, true]);
});

test("no rows give nothing, and gains that no row used get zeros", async ({ device, random }) => {
  const leaves = [zeros(device, [0, 8]), random.normal([8]), random.normal([8])] as const;
  for (const leaf of leaves) requireGrad(leaf);
  const [, dweight, dbias] = grad(layerNorm(...leaves, { eps: 1e-6 }).sum(), [...leaves]);
  await expect(dweight as (typeof leaves)[0]).toBeClose(Array(8).fill(0));
  await expect(dbias as (typeof leaves)[0]).toBeClose(Array(8).fill(0));
});

test("at 200 random shapes and dtypes it agrees with its reference, forward and backward", async ({ random }) => {
  const point = fc.record({
    shape: shapeOf(widths),
    of: dtypes,
    eps: fc.constantFrom(1e-2, 0.5),
    needs: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
  });
  await fc.assert(
    fc.asyncProperty(point, ({ shape, of: [x, gain], eps, needs }) => {
      const width = shape.slice(-1);
      return agree(layerNorm, random, {
        inputs: [random.normal(shape, 1, x), random.normal(width, 1, gain), random.normal(width, 1, gain)],
        params: { eps },
        needs,
        tolerance: toleranceOf(x, gain),
      });
    }),
    runs,
  );
});
