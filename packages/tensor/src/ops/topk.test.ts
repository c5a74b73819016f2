import fc from "fast-check";
import { anyDtype, at, build, type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { mapLines, noise } from "../../test/tools/lines.ts";
import { openDevice } from "../gpu/open-device.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { full, tensor } from "./create.ts";
import { topk } from "./topk.ts";

/** Indices in descending order of their elements; NaN first, of equals the first. */
const ranked =
  (k: number) =>
  (line: readonly number[]): number[] => {
    const above = (a: number, b: number): number => {
      if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(b)) - Number(Number.isNaN(a));
      return a === b ? 0 : b - a;
    };
    const order = line.map((_, i) => i).toSorted((i, j) => above(line[i] as number, line[j] as number) || i - j);
    return order.slice(0, k);
  };

/** Elements of `x` at indices along an axis. */
const picked = (x: Plain, indices: Plain, axis: number): Plain =>
  build(indices.shape, (index) => at(x, index.with(axis, at(indices, index))));

/** Zeros, but for `dy` at the indices along an axis. */
function scattered(shape: readonly number[], indices: Plain, dy: Plain, axis: number): Plain {
  const where = new Map<string, number>();
  for (const index of build(indices.shape, () => 0).values.keys()) {
    const full: number[] = [];
    for (let d = indices.shape.length - 1, rest = index; d >= 0; d--) {
      full.unshift(rest % (indices.shape[d] as number));
      rest = Math.floor(rest / (indices.shape[d] as number));
    }
    where.set(full.with(axis, at(indices, full)).join(), at(dy, full));
  }
  return build(shape, (index) => where.get(index.join()) ?? 0);
}

const cases = shapes()
  .filter((shape) => shape.length > 0)
  .chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })))
  .chain(([shape, axis]) =>
    fc.tuple(fc.constant(shape), fc.constant(axis), fc.integer({ min: 0, max: shape.at(axis) as number })),
  );

test("topk agrees with sorting along any axis, in 200 random shapes of every dtype, and its gradient puts dy back", async ({
  device,
}) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(cases, anyDtype, seeds, async ([shape, axis, k], dtype, seed) => {
      const front = axis < 0 ? axis + shape.length : axis;
      const x = noise(device, seed, shape, dtype);
      const leaf = upload(device, x, dtype);
      const wanted = mapLines(x, front, ranked(k));
      const want = { ...wanted, shape: shape.with(front, k) };
      const { values, indices } = topk(leaf, k, axis);
      expect([values.dtype, indices.dtype]).toEqual([dtype, "i32"]);
      await expect(indices).toBeClose(want);
      await expect(values).toBeClose(picked(x, want, front));
      if (dtype !== "f32" && dtype !== "bf16") return;
      const dy = noise(device, seed + 1, want.shape, dtype);
      const [dx] = grad(topk(requireGrad(leaf), k, axis).values, [leaf], { cotangent: upload(device, dy, dtype) }) as [
        Tensor,
      ];
      expect(dx.dtype).toBe(dtype);
      await expect(dx).toBeClose(scattered(shape, want, dy, front));
    }),
    { numRuns: 200, seed: 21 },
  );
});

/** Beside the narrow kernel and in the search: widths around the 256 lanes, many lines, lines that lie apart. */
const large: readonly (readonly [shape: number[], k: number, axis: number])[] = [
  [[3, 256], 256, 1],
  [[3, 257], 1, 1],
  [[2, 257], 200, 1],
  [[2, 511], 64, 1],
  [[2, 1023], 1023, 1],
  [[3, 5003], 17, 1],
  [[2, 151_936], 64, 1],
  [[1, 151_936], 1, 1],
  [[300, 7], 5, 0],
  [[2, 1009, 3], 64, 1],
  [[70_001, 3], 2, 1],
];

test.for(large)("topk of %j with k = %i along axis %i agrees with sorting", async ([shape, k, axis], { device }) => {
  const coarse = noise(device, 3, [4093], "f32").values;
  // The noise repeats, so that in long lines every value has equals.
  const x: Plain = {
    shape,
    values: Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => coarse[i % 4093] as number),
  };
  const want = mapLines(x, axis, ranked(k));
  const { values, indices } = topk(upload(device, x), k, axis);
  await expect(indices).toBeClose(want);
  await expect(values).toBeClose(picked(x, want, axis));
});

test("more lines than workgroups fit side by side are searched all", async ({ random }) => {
  using narrow = await openDevice({ limits: { maxComputeWorkgroupsPerDimension: 16 }, notice: () => {} });
  const x: Plain = { shape: [103, 300], values: [...random.normals(103 * 300)] };
  await expect(topk(upload(narrow, x), 3).indices).toBeClose(mapLines(x, 1, ranked(3)));
});

test.for([20, 300, 70_000])(
  "among %i equals the lowest indices come first, after NaN and what is larger",
  async (width, { device }) => {
    const row = new Float32Array(width).fill(2);
    row[width - 1] = Number.NaN;
    row[width - 2] = Infinity;
    row[width - 3] = -Infinity;
    row[0] = -0;
    row[1] = 0;
    const k = 7;
    const { values, indices } = topk(tensor(device, row), k);
    await expect(indices).toBeClose([width - 1, width - 2, 2, 3, 4, 5, 6]);
    await expect(values).toBeClose([Number.NaN, Infinity, 2, 2, 2, 2, 2]);
    const zeros = new Float32Array(width).map((_, i) => (i % 2 ? 0 : -0));
    await expect(topk(tensor(device, zeros), 3).indices).toBeClose([0, 1, 2]);
  },
);

test("integers are told apart to the last bit", async ({ device }) => {
  for (const width of [10, 300]) {
    const signed = Int32Array.from({ length: width }, (_, i) => (i % 2 ? 2 ** 31 - i : -(2 ** 31) + i));
    const want = ranked(5)([...signed]);
    await expect(topk(tensor(device, signed), 5).indices).toBeClose(want);
    const unsigned = Uint32Array.from({ length: width }, (_, i) => (i % 2 ? 2 ** 32 - i : i));
    await expect(topk(tensor(device, unsigned), 5).values).toBeClose(
      ranked(5)([...unsigned]).map((i) => unsigned[i] as number),
    );
  }
});

test("the gradient of the values flows to the chosen elements", async ({ random }) => {
  for (const [shape, k, axis] of [
    [[3, 7], 2, 1],
    [[3, 7], 2, 0],
    [[2, 200], 9, 1],
  ] as const) {
    // Far apart, so that a small step changes no choice.
    const x = tensor(
      random.device,
      Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => (i * 37) % 401),
      { shape },
    );
    await checkGradients((v) => topk(v as Tensor, k, axis).values, [x]);
  }
});

test("k of the wrong size and missing axes are refused by name", async ({ device }) => {
  const x = full(device, [2, 3], 1);
  expect(() => topk(x, 4)).toThrow("topk: axis -1 of [2, 3] has no 4 largest elements");
  expect(() => topk(x, -1)).toThrow("has no -1 largest");
  expect(() => topk(x, 1.5)).toThrow("has no 1.5 largest");
  expect(() => topk(x, 1, 2)).toThrow("topk: there is no axis 2");
  await expect(topk(x, 0).values).toBeClose({ shape: [2, 0], values: [] });
});
