import fc from "fast-check";
import { anyDtype, at as under, build, shapes, upload } from "../../test/tools/arrays.ts";
import { groupsOf, noise, reduceGroups, stored, toleranceOf } from "../../test/tools/lines.ts";
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { grad } from "../grad.ts";
import { size, strides } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { full, tensor } from "./create.ts";
import { max, mean, min, norm, sum } from "./reduce.ts";

const total = (group: readonly number[]): number => group.reduce((a, b) => a + b, 0);
const greatest = (group: readonly number[]): number => group.reduce((a, b) => Math.max(a, b), -Infinity);
const least = (group: readonly number[]): number => group.reduce((a, b) => Math.min(a, b), Infinity);
const count = (group: readonly number[], y: number): number => group.filter((x) => x === y).length;

/** Each reduction, what it means, its slope by an element, and the dtype of its result. */
const table = {
  sum: { op: sum, plain: total, slope: () => 1, dtype: (d: DType) => (d === "bool" ? "i32" : d) },
  mean: {
    op: mean,
    plain: (group: readonly number[]) => total(group) / group.length,
    slope: (_: number, __: number, group: readonly number[]) => 1 / group.length,
    dtype: (d: DType) => (isFloat(d) ? d : "f32"),
  },
  max: {
    op: max,
    plain: greatest,
    slope: (x: number, y: number, group: readonly number[]) => (x === y ? 1 / count(group, y) : 0),
    dtype: (d: DType) => d,
  },
  min: {
    op: min,
    plain: least,
    slope: (x: number, y: number, group: readonly number[]) => (x === y ? 1 / count(group, y) : 0),
    dtype: (d: DType) => d,
  },
  norm: {
    op: norm,
    plain: (group: readonly number[]) => Math.hypot(...group),
    slope: (x: number, y: number) => (y === 0 ? 0 : x / y),
    dtype: (d: DType) => (isFloat(d) ? d : "f32"),
  },
} as const;
const names = ["sum", "mean", "max", "min", "norm"] as const;

/** A shape and some of its axes, perhaps counted from the end; null stands for all of them. */
const withAxes = shapes().chain((shape) =>
  fc.tuple(
    fc.constant(shape),
    fc.option(fc.subarray([...shape.keys()]).chain((axes) => fc.shuffledSubarray(axes, { minLength: axes.length }))),
    fc.boolean(),
  ),
);

test.for(names)(
  "%s over any axes agrees with double precision, in 200 random shapes of every dtype, and so does its gradient",
  async (name, { device }) => {
    const { op, plain, slope, dtype: dtypeOf } = table[name];
    const seeds = fc.integer({ min: 1, max: 1e6 });
    await fc.assert(
      fc.asyncProperty(
        withAxes,
        fc.boolean(),
        anyDtype,
        seeds,
        async ([shape, some, keepDim], negative, dtype, seed) => {
          const axes = some ?? [...shape.keys()];
          const x = noise(device, seed, shape, dtype);
          // Rounded to quarters, so that there are ties.
          const ties = { shape, values: x.values.map((v) => stored(dtype, Math.round(4 * v) / 4)) };
          const asked = some?.map((axis) => (negative ? axis - shape.length : axis));
          const leaf = upload(device, ties, dtype);
          const nothing = size(shape) === 0 && shape.every((n, d) => n > 0 || axes.includes(d));
          if (nothing && (name === "max" || name === "min")) {
            expect(() => op(leaf, asked, { keepDim })).toThrow(
              `${name}: [${shape.join(", ")}] has no element to choose`,
            );
            return;
          }
          const want = reduceGroups(ties, axes, plain);
          const seen = keepDim ? want.shape : shape.filter((_, d) => !axes.includes(d));
          const y = op(leaf, asked, { keepDim });
          expect(y.dtype).toBe(dtypeOf(dtype));
          await expect(y).toBeClose({ ...want, shape: seen }, toleranceOf(dtype));
          if (dtype !== "f32") return;
          const { kept, groups } = groupsOf(ties, axes);
          const upstream = noise(device, seed + 1, want.shape, "f32");
          const [dx] = grad(op(requireGrad(leaf), asked, { keepDim }), [leaf], {
            cotangent: upload(device, { ...upstream, shape: seen }),
          }) as [Tensor];
          const wanted = build(shape, (index) => {
            const at = strides(kept).reduce(
              (sum, step, d) => sum + step * (axes.includes(d) ? 0 : (index[d] as number)),
              0,
            );
            const [dy, y] = [upstream.values[at] as number, want.values[at] as number];
            return dy * slope(under(ties, index), y, groups[at] as number[]);
          });
          await expect(dx).toBeClose(wanted, { absolute: 1e-6, relative: 2e-6 });
        },
      ),
      { numRuns: 200, seed: 1 },
    );
  },
);

/** Widths on both sides of every change of kernel and of one round or two, rows beyond 65,535 workgroups. */
const large: readonly (readonly [shape: number[], axes: number[]])[] = [
  [[3, 128], [1]],
  [[3, 129], [1]],
  [[2, 1024], [1]],
  [[2, 1025], [1]],
  [[4095], [0]],
  [[4097], [0]],
  [[100_003], [0]],
  [[2, 100_003], [1]],
  [[2, 100_004], [1]],
  [[600, 36], [1]],
  [[65, 3], [0]],
  [[5003, 3], [0]],
  [[2, 1031, 7], [1]],
  [
    [300, 5, 300],
    [0, 2],
  ],
  [
    [3, 1031, 5, 67],
    [1, 3],
  ],
  [[70_001, 3], [1]],
  [[70_001, 3], [0]],
  [[3, 70_001], [0]],
];

test.for(large)("reductions of %j over %j are exact for whole numbers", async ([shape, axes], { device }) => {
  const x = noise(device, 4, shape, "i32");
  for (const dtype of ["f32", "i32"] as const) {
    const tensor = upload(device, x, dtype);
    const seen = shape.filter((_, d) => !axes.includes(d));
    for (const [op, plain] of [
      [sum, total],
      [max, greatest],
      [min, least],
    ] as const) {
      await expect(op(tensor, axes)).toBeClose({ ...reduceGroups(x, axes, plain), shape: seen });
    }
  }
});

test("more outputs than workgroups fit side by side are all reduced", async ({ random }) => {
  using narrow = await openDevice({ limits: { maxComputeWorkgroupsPerDimension: 3 }, notice: () => {} });
  for (const shape of [
    [53, 150],
    [7, 1030],
  ]) {
    const x = noise(random.device, 4, shape, "i32");
    const want = reduceGroups(x, [1], total);
    await expect(sum(upload(narrow, x, "i32"), 1)).toBeClose({ ...want, shape: [shape[0] as number] });
  }
});

test.for([5, 200, 3000, 100_003])(
  "of %i elements NaN wins, wherever it stands, and -inf alone is no number missing",
  async (n, { device }) => {
    for (const spot of [0, n >> 1, n - 1]) {
      const row = Float32Array.from({ length: n }, (_, i) => (i === spot ? Number.NaN : i));
      for (const op of [max, min, sum, mean, norm]) expect(await op(tensor(device, row)).item()).toBeNaN();
      const infinite = row.fill(-Infinity);
      expect(await max(tensor(device, infinite)).item()).toBe(-Infinity);
      infinite[spot] = Infinity;
      expect(await max(tensor(device, infinite)).item()).toBe(Infinity);
      expect(await min(tensor(device, infinite.fill(Infinity))).item()).toBe(Infinity);
    }
  },
);

test("sums and means of nothing are 0 and NaN, and what chooses from nothing is refused", async ({ device }) => {
  const none = full(device, [0, 3], 1);
  await expect(sum(none, 0)).toBeClose({ shape: [3], values: [0, 0, 0] });
  await expect(norm(none, 0)).toBeClose({ shape: [3], values: [0, 0, 0] });
  expect(await mean(none).item()).toBeNaN();
  await expect(max(none, 1)).toBeClose({ shape: [0], values: [] });
  expect(() => max(none, 0)).toThrow(ShapeError);
  expect(() => min(none)).toThrow("min: [0, 3] has no element to choose");
});

test("axes that are missing or named twice are refused by name", ({ device }) => {
  const x = full(device, [2, 3], 1);
  expect(() => sum(x, 2)).toThrow("sum: there is no axis 2 in a tensor of rank 2");
  expect(() => mean(x, [0, -3])).toThrow("mean: there is no axis -3");
  expect(() => max(x, [1, -1])).toThrow("max: an axis is named twice in [1, 1]");
  expect(() => norm(x, [0, 0])).toThrow("norm: an axis is named twice in [0, 0]");
});

test("16-bit floats are added in f32 and rounded once, however many rounds it takes", async ({ device }) => {
  // Every partial sum is beyond the largest f16, 65504; the mean and the norm are not.
  const f16 = full(device, [200_000], 300, "f16");
  expect(await mean(f16).item()).toBe(300);
  expect(await norm(full(device, [100, 100], 300, "f16")).item()).toBe(30_000);
  expect(await sum(full(device, [300], 300, "f16")).item()).toBe(Infinity);
  // So it is after the first of two rounds, and between two axes that lie apart.
  const signs = Float32Array.from({ length: 200_000 }, (_, i) => (i < 100_000 ? 300 : -300));
  expect(await sum(tensor(device, signs, { dtype: "f16" })).item()).toBe(0);
  await expect(mean(full(device, [2, 3, 400], 300, "f16"), [0, 2])).toBeClose({ shape: [3], values: [300, 300, 300] });
  // 257 + 1 and so on would stay 256 in bf16.
  expect(await sum(full(device, [4096], 1, "bf16")).item()).toBe(4096);
  await expect(sum(full(device, [64, 3, 64], 1, "bf16"), [0, 2])).toBeClose({ shape: [3], values: [4096, 4096, 4096] });
});

test("the gradient is shared among ties, also when they are more than f16 can count, and among NaN", async ({
  device,
}) => {
  const x = requireGrad(full(device, [70_000], 2, "f16"));
  const [dx] = grad(max(x), [x]) as [Tensor];
  await expect(dx).toBeClose(new Float32Array(70_000).fill(stored("f16", 1 / 70_000)));
  const some = requireGrad(tensor(device, [1, Number.NaN, 3, Number.NaN]));
  await expect(grad(max(some), [some])[0] as Tensor).toBeClose([0, 0.5, 0, 0.5]);
});

test("the gradient of the norm at the zero vector is 0", async ({ device }) => {
  const x = requireGrad(full(device, [3], 0));
  await expect(grad(norm(x), [x])[0] as Tensor).toBeClose([0, 0, 0]);
});

test("integers wrap, and are exact beyond what f32 holds", async ({ device }) => {
  expect(await sum(tensor(device, Int32Array.of(2 ** 24, 1))).item()).toBe(2 ** 24 + 1);
  expect(await max(tensor(device, Int32Array.of(2 ** 24, 2 ** 24 + 1))).item()).toBe(2 ** 24 + 1);
  expect(await max(tensor(device, Uint32Array.of(1, 2 ** 32 - 1))).item()).toBe(2 ** 32 - 1);
  expect(await sum(tensor(device, Int32Array.of(2 ** 31 - 1, 1))).item()).toBe(-(2 ** 31));
});

test.for(names)("%s has its slope for a gradient", async (name, { random }) => {
  const { op } = table[name];
  await checkGradients((x) => op(x as Tensor, [0, 2]), [random.normal([3, 5, 2])]);
  await checkGradients((x) => op(x as Tensor), [random.normal([7])]);
  await checkGradients((x) => op(x as Tensor, -1, { keepDim: true }), [random.normal([2, 131])]);
});
