import fc from "fast-check";
import { anyDtype, type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { mapLines, noise } from "../../test/tools/lines.ts";
import { size } from "../shape.ts";
import { expect, test } from "../testing.ts";
import { argmax, argmin } from "./argmax.ts";
import { full, tensor } from "./create.ts";

/** The first index that nothing beats; NaN beats all. */
const first =
  (sign: 1 | -1) =>
  (line: readonly number[]): number[] => {
    let best = 0;
    for (const [i, x] of line.entries()) {
      const b = line[best] as number;
      if (!Number.isNaN(b) && (Number.isNaN(x) || sign * x > sign * b)) best = i;
    }
    return [best];
  };
const ops = { argmax: [argmax, first(1)], argmin: [argmin, first(-1)] } as const;
const names = ["argmax", "argmin"] as const;

const withAxis = shapes()
  .filter((shape) => shape.length > 0)
  .chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })))
  .filter(([shape, axis]) => shape.at(axis) !== 0);

test.for(names)(
  "%s finds the first best element along any axis, in 200 random shapes of every dtype",
  async (name, { device }) => {
    const [op, find] = ops[name];
    const seeds = fc.integer({ min: 1, max: 1e6 });
    await fc.assert(
      fc.asyncProperty(withAxis, anyDtype, fc.boolean(), seeds, async ([shape, axis], dtype, keepDim, seed) => {
        // Rounded to halves, so that there are ties.
        const x = noise(device, seed, shape, dtype);
        const plain = { shape, values: x.values.map((v) => Math.round(2 * v) / 2) };
        const rough = dtype === "i32" || dtype === "u32" || dtype === "bool" ? x : plain;
        const front = axis < 0 ? axis + shape.length : axis;
        const want = mapLines(rough, front, find);
        const y = op(upload(device, rough, dtype), axis, { keepDim });
        expect(y.dtype).toBe("i32");
        await expect(y).toBeClose(keepDim ? want : { ...want, shape: shape.toSpliced(front, 1) });
        if (size(shape) === 0) return;
        await expect(op(upload(device, rough, dtype))).toBeClose({ shape: [], values: find(rough.values) });
      }),
      { numRuns: 200, seed: 5 },
    );
  },
);

/** Widths on both sides of every change of kernel; the best element is put at the end, where a short chunk loses it. */
const large: readonly (readonly [shape: number[], axis: number])[] = [
  [[3, 128], 1],
  [[3, 129], 1],
  [[2, 1025], 1],
  [[1, 4097], 1],
  [[100_003], 0],
  [[2, 151_936], 1],
  [[67, 3], 0],
  [[5003, 3], 0],
  [[2, 300, 700], 1],
  [[70_001, 2], 1],
];

test.for(large)(
  "argmax and argmin of %j along axis %i find an element at the end, the beginning and between",
  async ([shape, axis], { device }) => {
    const width = shape[axis] as number;
    const inner = size(shape.slice(axis + 1));
    const values = noise(device, 3, shape, "f32").values;
    const spots = [width - 1, 0, (width * 2) / 3].map(Math.floor);
    // Line by line the spot moves on.
    const spotOf = (line: number): number => spots[line % spots.length] as number;
    for (const [op, extreme] of [
      [argmax, 9],
      [argmin, -9],
    ] as const) {
      const planted = Float32Array.from(values);
      const lines = values.length / width;
      for (let line = 0; line < lines; line++) {
        const base = Math.floor(line / inner) * width * inner + (line % inner);
        planted[base + spotOf(line) * inner] = extreme;
        // An equal one later does not count.
        if (spotOf(line) + 1 < width) planted[base + (spotOf(line) + 1) * inner] = extreme;
      }
      const want: Plain = {
        shape: shape.toSpliced(axis, 1),
        values: Array.from({ length: lines }, (_, line) => spotOf(line)),
      };
      await expect(op(tensor(device, planted, { shape }), axis)).toBeClose(want);
    }
  },
);

test.for([3, 300, 20_000])(
  "among %i elements NaN counts as the largest and as the smallest, and -0 equals 0",
  async (n, { device }) => {
    const row = Float32Array.from({ length: n }, (_, i) => (i % 7 === 2 ? Number.NaN : i % 2 ? Infinity : -Infinity));
    expect(await argmax(tensor(device, row)).item()).toBe(2);
    expect(await argmin(tensor(device, row)).item()).toBe(2);
    const zeros = Float32Array.from({ length: n }, (_, i) => (i === 1 ? -0 : 0));
    expect(
      await argmax(
        tensor(
          device,
          zeros.map((z) => -z),
        ),
      ).item(),
    ).toBe(0);
    expect(await argmin(tensor(device, zeros)).item()).toBe(0);
    expect(await argmax(tensor(device, row.fill(-Infinity))).item()).toBe(0);
    expect(await argmin(tensor(device, row.fill(Infinity))).item()).toBe(0);
  },
);

test("integers are told apart to the last bit", async ({ device }) => {
  const signed = Int32Array.of(2 ** 31 - 2, -(2 ** 31), 2 ** 31 - 1, -(2 ** 31) + 1);
  expect(await argmax(tensor(device, signed)).item()).toBe(2);
  expect(await argmin(tensor(device, signed)).item()).toBe(1);
  const unsigned = Uint32Array.of(2 ** 32 - 2, 1, 2 ** 32 - 1, 0);
  expect(await argmax(tensor(device, unsigned)).item()).toBe(2);
  expect(await argmin(tensor(device, unsigned)).item()).toBe(3);
});

test("without an axis the index is into the elements in row-major order, and keepDim keeps the rank", async ({
  device,
}) => {
  const x = tensor(device, [
    [1, 5],
    [7, 2],
  ]);
  await expect(argmax(x)).toBeClose({ shape: [], values: [2] });
  await expect(argmax(x, undefined, { keepDim: true })).toBeClose({ shape: [1, 1], values: [2] });
  await expect(argmax(tensor(device, 4))).toBeClose({ shape: [], values: [0] });
});

test("nothing to choose from and missing axes are refused by name", async ({ device }) => {
  const none = full(device, [2, 0], 1);
  expect(() => argmax(none, 1)).toThrow("argmax: [2, 0] has no element to choose");
  expect(() => argmin(none)).toThrow("argmin: [2, 0] has no element to choose");
  expect(() => argmax(none, 2)).toThrow("argmax: there is no axis 2");
  await expect(argmax(none, 0)).toBeClose({ shape: [0], values: [] });
});
