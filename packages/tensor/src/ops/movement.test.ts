import fc from "fast-check";
import { at, anyDtype, build, counting, type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { arange } from "./create.ts";
import { flip, permute, type Range, select, slice, transpose } from "./movement.ts";
import { reshape } from "./reshape.ts";

/** The same array as nested slicing in NumPy gives it, axis by axis, from a plain loop over begin, begin + step, … */
function sliced(x: Plain, ranges: readonly Range[]): Plain {
  const taken = x.shape.map((length, d) => {
    const range = ranges[d] ?? null;
    const step = range?.[2] ?? 1;
    const wrap = (i: number): number => (i < 0 ? i + length : i);
    const begin = range?.[0] ?? null;
    const end = range?.[1] ?? null;
    const out: number[] = [];
    // A bound outside the axis, on the side where the walk would begin, is moved to the axis first.
    let i = begin === null ? (step > 0 ? 0 : length - 1) : wrap(begin);
    i = step > 0 ? Math.max(i, 0) : Math.min(i, length - 1);
    for (; i >= 0 && i < length; i += step) {
      if (end !== null && (step > 0 ? i >= wrap(end) : i <= wrap(end))) break;
      out.push(i);
    }
    return out;
  });
  return build(
    taken.map((list) => list.length),
    (index) =>
      at(
        x,
        index.map((i, d) => taken[d]?.[i] as number),
      ),
  );
}

const bound = fc.option(fc.integer({ min: -7, max: 7 }));
const range: fc.Arbitrary<Range> = fc.oneof(
  fc.constant(null),
  fc.tuple(bound),
  fc.tuple(bound, bound),
  fc.tuple(bound, bound, fc.constantFrom(1, 2, 3, -1, -2, -3)),
);

test("200 random slices agree with NumPy's rules in every dtype, and their gradients put dy back", async ({
  device,
}) => {
  const runs = fc.tuple(shapes(), fc.array(range, { maxLength: 4 }), anyDtype);
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, all, dtype]) => {
      const ranges = all.slice(0, shape.length);
      const plain = counting(shape, dtype);
      const x = upload(device, plain, dtype);
      const want = sliced(plain, ranges);
      const y = slice(x, ...ranges);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(want);
      if (dtype === "i32" || dtype === "u32" || dtype === "bool") return;

      // Each element's own number, so that the gradient shows where it came from.
      const dy = upload(device, counting(want.shape), dtype);
      requireGrad(x);
      const [dx] = grad(slice(x, ...ranges), [x], { cotangent: dy });
      const back = new Map(want.values.map((from, i) => [from, i + 1]));
      await expect(dx as Tensor).toBeClose({ shape, values: plain.values.map((v) => back.get(v) ?? 0) });
    }),
    { numRuns: 200, seed: 21 },
  );
});

test("200 random permutations agree with their definition, and their gradients are the inverse", async ({ device }) => {
  const runs = shapes(5).chain((shape) =>
    fc.tuple(
      fc.constant(shape),
      fc.shuffledSubarray(
        shape.map((_, d) => d),
        { minLength: shape.length },
      ),
      anyDtype,
    ),
  );
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, axes, dtype]) => {
      const plain = counting(shape, dtype);
      const x = upload(device, plain, dtype);
      const want = build(
        axes.map((axis) => shape[axis] as number),
        (index) =>
          at(
            plain,
            shape.map((_, d) => index[axes.indexOf(d)] as number),
          ),
      );
      const y = permute(x, axes);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(want);
      if (dtype === "i32" || dtype === "u32" || dtype === "bool") return;
      requireGrad(x);
      const [dx] = grad(permute(x, axes), [x], { cotangent: y });
      await expect(dx as Tensor).toBeClose(plain);
    }),
    { numRuns: 200, seed: 22 },
  );
});

test("transpose, select and flip agree with their definitions", async ({ device }) => {
  for (const shape of [
    [3, 5],
    [2, 3, 5],
    [1, 7, 2, 3],
    [2, 0, 3],
  ]) {
    const plain = counting(shape);
    const x = upload(device, plain);
    const rank = shape.length;
    const swapped = (a: number, b: number): Plain => {
      const swap = <T>(list: readonly T[]): T[] => list.with(a, list[b] as T).with(b, list[a] as T);
      return build(swap(shape), (index) => at(plain, swap(index)));
    };
    await expect(transpose(x)).toBeClose(swapped(rank - 2, rank - 1));
    await expect(transpose(x, 0, -1)).toBeClose(swapped(0, rank - 1));
    await expect(transpose(x, 1, 1)).toBeClose(plain);
    for (let axis = 0; axis < rank; axis++) {
      const length = shape[axis] as number;
      await expect(flip(x, axis - rank)).toBeClose(
        build(shape, (index) => at(plain, index.with(axis, length - 1 - (index[axis] as number)))),
      );
      for (let i = -length; i < length; i++) {
        await expect(select(x, axis, i)).toBeClose(
          build(shape.toSpliced(axis, 1), (index) => at(plain, index.toSpliced(axis, 0, i < 0 ? i + length : i))),
        );
      }
    }
    await expect(flip(x)).toBeClose({ shape, values: plain.values.toReversed() });
    await expect(flip(x, [0, 1])).toBeClose(
      build(shape, (index) =>
        at(
          plain,
          index
            .with(0, (shape[0] as number) - 1 - (index[0] as number))
            .with(1, (shape[1] as number) - 1 - (index[1] as number)),
        ),
      ),
    );
  }
  const scalar = upload(device, { shape: [], values: [3] });
  await expect(permute(scalar, [])).toBeClose({ shape: [], values: [3] });
  await expect(slice(scalar)).toBeClose({ shape: [], values: [3] });
  await expect(flip(scalar)).toBeClose({ shape: [], values: [3] });
});

test("NaN and infinities move as they are", async ({ device }) => {
  const values = [NaN, Infinity, -Infinity, -0, 1, 2];
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const x = upload(device, { shape: [2, 3], values }, dtype);
    await expect(transpose(x)).toBeClose({ shape: [3, 2], values: [NaN, -0, Infinity, 1, -Infinity, 2] });
    await expect(flip(x)).toBeClose({ shape: [2, 3], values: values.toReversed() });
  }
});

test("every way to move has its slope for a gradient", async ({ random }) => {
  await checkGradients((x) => slice(x, [1, 4], [null, null, -2]), [random.normal([5, 7])]);
  await checkGradients((x) => slice(x, [-3, null, 2], null, [4, 0, -1]), [random.normal([4, 2, 5])]);
  await checkGradients((x) => permute(x, [2, 0, 1]), [random.normal([3, 5, 2])]);
  await checkGradients((x) => transpose(x, 0, 1), [random.normal([3, 5, 2])]);
  await checkGradients((x) => select(x, 1, -2), [random.normal([3, 5, 2])]);
  await checkGradients((x) => flip(x, 1), [random.normal([3, 5, 2])]);
});

test("more elements than 65,535 workgroups hold are all moved", async ({ device }) => {
  const n = 65_536 * 64 + 131;
  const x = arange(device, 0, n, 1, "i32");
  const values = await flip(x).read();
  expect(values.every((v, i) => v === n - 1 - i)).toBe(true);
  const columns = await transpose(reshape(x, [3, n / 3])).read();
  expect(columns.every((v, i) => v === (i % 3) * (n / 3) + Math.floor(i / 3))).toBe(true);
});

test("a mistake is told with the op and the shape", ({ device }) => {
  const x = upload(device, counting([2, 3]));
  expect(() => permute(x, [0])).toThrow("permute: [0] does not name every axis of [2, 3] once");
  expect(() => permute(x, [0, -2])).toThrow("permute: [0, -2] does not name every axis of [2, 3] once");
  expect(() => permute(x, [0, 2])).toThrow("permute: there is no axis 2 in a tensor of rank 2");
  expect(() => transpose(upload(device, counting([3])))).toThrow(
    "transpose: there is no axis -2 in a tensor of rank 1",
  );
  expect(() => slice(x, null, null, [1])).toThrow("slice: 3 ranges are too many for [2, 3]");
  expect(() => slice(x, [0, 1, 0])).toThrow("slice: [0, 1, 0] is no range of an axis of [2, 3]");
  expect(() => slice(x, [0.5])).toThrow("slice: [0.5, null, 1] is no range of an axis of [2, 3]");
  expect(() => select(x, 1, 3)).toThrow("select: axis 1 of [2, 3] has no index 3");
  expect(() => select(x, 0, -3)).toThrow("select: axis 0 of [2, 3] has no index -3");
  expect(() => flip(x, [0, 5])).toThrow("flip: there is no axis 5 in a tensor of rank 2");
});
