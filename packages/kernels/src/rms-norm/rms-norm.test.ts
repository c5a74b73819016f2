import { grad, openDevice, requireGrad, ShapeError, tensor, zeros } from "@rot/tensor";
import { checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, dtypes, runs, shapeOf, toleranceOf, widths } from "../../test/tools/agree.ts";
import { rowKnobs } from "../shared/rows.wgsl.ts";
import { rmsNormForward } from "./forward.wgsl.ts";
import { cases } from "./rms-norm.cases.ts";
import { rmsNorm } from "./rms-norm.ts";

checkOp(cases);

test("a weight of the wrong length, a scalar and whole numbers are refused before any GPU work", ({
  device,
  random,
}) => {
  const x = random.normal([2, 16]);
  const of = { eps: 1e-6 };
  expect(() => rmsNorm(x, random.normal([8]), of)).toThrow(
    new ShapeError("rmsNorm: weight is [8], but the last axis of x [2, 16] is 16"),
  );
  expect(() => rmsNorm(x, random.normal([16, 1]), of)).toThrow("rmsNorm: weight is [16, 1]");
  expect(() => rmsNorm(random.normal([]), random.normal([1]), of)).toThrow("rmsNorm: weight is [1], but x is a scalar");
  expect(() => rmsNorm(tensor(device, [1, 2], { dtype: "i32" }), random.normal([2]), of)).toThrow("x is i32");
});

test("a row of zeros stays zero: eps keeps the root from dividing by it", async ({ device, random }) => {
  const y = rmsNorm(zeros(device, [2, 64]), random.normal([64]), { eps: 1e-6 });
  expect((await y.read()).every((v) => v === 0)).toBe(true);
});

test("NaN and infinity spoil their own row and no other", async ({ device }) => {
  const values = Float32Array.from({ length: 5 * 12 }, (_, i) => 1 + (i % 3));
  values[12] = Number.NaN;
  values[3 * 12 + 5] = Number.POSITIVE_INFINITY;
  const x = tensor(device, values, { shape: [5, 12] });
  const y = await rmsNorm(x, tensor(device, Array(12).fill(1)), { eps: 1e-6 }).read();
  const clean = [0, 1, 2, 3, 4].map((row) => y.slice(12 * row, 12 * row + 12).every(Number.isFinite));
  expect(clean).toEqual([true, false, true, false, true]);
});

test("more rows than a grid is wide are all normalised, and all count in the gradient of the weight", async ({
  device,
}) => {
  const rows = 70_001 * 9;
  const x = requireGrad(tensor(device, new Float32Array(rows * 2).fill(3), { shape: [rows, 2] }));
  const weight = requireGrad(tensor(device, [1, 2]));
  const y = rmsNorm(x, weight, { eps: 0 });
  const values = await y.read();
  expect(values.every((v, i) => Math.abs(v - 1 - (i % 2)) < 1e-5)).toBe(true);
  const [dx, dweight] = grad(y.sum(), [x, weight]) as [typeof x, typeof x];
  await expect(dweight).toBeClose([rows, rows], { relative: 1e-4 });
  await expect(dx).toBeClose(
    Float32Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? -1 : 1) / 6),
    {
      absolute: 1e-5,
    },
  );
});

test("a device without subgroups runs no setting that needs them, and gets the same result without", async ({
  device,
  random,
}) => {
  const without = ["subgroups", "subgroup-size-control"] as GPUFeatureName[]; // the second implies the first
  using plain = await openDevice({ without, notice: () => {} });
  const runs = (of: typeof device) => rmsNormForward.settings().filter((setting) => rmsNormForward.runsOn(of, setting));
  expect(runs(plain)).toEqual(
    rowKnobs.lanes.flatMap((lanes) => [1, 4].map((each) => ({ lanes, subgroups: false, each }))),
  );
  expect(runs(device)).toHaveLength(device.features.has("subgroups") ? 16 : 8);
  const [x, weight] = [random.normals(300), random.normals(100)];
  const on = (of: typeof device) =>
    rmsNorm(tensor(of, x, { shape: [3, 100] }), tensor(of, weight), { eps: 1e-6 }).read();
  const [a, b] = [await on(plain), await on(device)];
  expect(a.every((v, i) => Math.abs(v - (b[i] as number)) < 1e-5)).toBe(true);
});

test("the gradient of the weight has the same bits every time", async ({ random }) => {
  const inputs = [random.normal([1000, 36]), random.normal([36])] as const;
  for (const input of inputs) requireGrad(input);
  const cotangent = random.normal([1000, 36]);
  const once = () => grad(rmsNorm(...inputs, { eps: 1e-6 }), [...inputs], { cotangent })[1]?.read();
  expect(await once()).toEqual(await once());
});

test("no rows and no width give nothing, and a weight that no row used gets zeros", async ({ device, random }) => {
  const x = requireGrad(zeros(device, [0, 8]));
  const weight = requireGrad(random.normal([8]));
  const [dx, dweight] = grad(rmsNorm(x, weight, { eps: 1e-6 }).sum(), [x, weight]) as [typeof x, typeof x];
  expect(dx.shape).toEqual([0, 8]);
  await expect(dweight).toBeClose(Array(8).fill(0));
  expect(rmsNorm(zeros(device, [3, 0]), zeros(device, [0]), { eps: 1e-6 }).shape).toEqual([3, 0]);
});

test("at 200 random shapes and dtypes it agrees with its reference, forward and backward", async ({ random }) => {
  const point = fc.record({
    shape: shapeOf(widths),
    of: dtypes,
    eps: fc.constantFrom(1e-2, 0.5),
    needs: fc.tuple(fc.boolean(), fc.boolean()),
  });
  await fc.assert(
    fc.asyncProperty(point, ({ shape, of, eps, needs }) =>
      agree(rmsNorm, random, {
        inputs: [random.normal(shape, 1, of[0]), random.normal(shape.slice(-1), 1, of[1])],
        params: { eps },
        needs,
        tolerance: toleranceOf(...of),
      }),
    ),
    runs,
  );
});
