import fc from "fast-check";
import { afterAll } from "vitest";
import { counting, type Plain, upload } from "../../test/tools/arrays.ts";
import { type DType, isFloat } from "../dtype.ts";
import { openDevice } from "../gpu/open-device.ts";
import { grad } from "../grad.ts";
import { size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { arange, tensor } from "./create.ts";
import { gatherLast, gatherRows, scatterAddRows } from "./gather.ts";

/** By their definitions; `outside` stands for a row that is not there. */
const reference = {
  gatherRows: (x: Plain, indices: Plain, outside: number): Plain => {
    const [rows, ...rest] = x.shape as [number, ...number[]];
    const width = size(rest);
    const row = (i: number): number[] =>
      Array.from({ length: width }, (_, c) => (i >= 0 && i < rows ? (x.values[i * width + c] as number) : outside));
    return { shape: [...indices.shape, ...rest], values: indices.values.flatMap(row) };
  },
  scatterAddRows: (rows: number, indices: Plain, source: Plain): Plain => {
    const rest = source.shape.slice(indices.shape.length);
    const width = size(rest);
    const values = Array<number>(rows * width).fill(0);
    for (const [p, row] of indices.values.entries()) {
      if (row < 0 || row >= rows) continue;
      for (let c = 0; c < width; c++) values[row * width + c]! += source.values[p * width + c] as number;
    }
    return { shape: [rows, ...rest], values };
  },
  gatherLast: (x: Plain, indices: Plain, outside: number): Plain => {
    const width = x.shape.at(-1) as number;
    const one = (i: number, row: number): number =>
      i >= 0 && i < width ? (x.values[row * width + i] as number) : outside;
    return { shape: indices.shape, values: indices.values.map(one) };
  },
  putLast: (shape: readonly number[], indices: Plain, dy: Plain): Plain => {
    const width = shape.at(-1) as number;
    const values = Array<number>(size(shape)).fill(0);
    for (const [row, i] of indices.values.entries()) {
      if (i >= 0 && i < width) values[row * width + i] = dy.values[row] as number;
    }
    return { shape, values };
  },
};

const dtypes = fc.constantFrom<DType>("f32", "f32", "f16", "bf16", "i32", "u32", "bool");
const short = fc.array(fc.constantFrom(0, 1, 2, 3, 5), { maxLength: 2 });

/** A table, indices of which one in six lies outside, and a dtype for each. */
const runs = fc
  .record({
    rows: fc.constantFrom(0, 1, 2, 3, 7),
    rest: short,
    shape: short,
    draws: fc.array(fc.nat(1000), { minLength: 25, maxLength: 25 }),
    dtype: dtypes,
    indexed: fc.constantFrom<DType>("i32", "u32"),
  })
  .map(({ draws, rows, shape, indexed, ...more }) => {
    const draw = (d: number): number =>
      d % 6 === 0 || rows === 0 ? (indexed === "i32" && d % 4 === 0 ? -1 - (d % 100) : rows + (d % 3)) : d % rows;
    return { ...more, rows, indexed, indices: { shape, values: draws.slice(0, size(shape)).map(draw) } };
  });

test("200 random gathers and scatters agree with their definitions, and are each other's gradients", async ({
  device,
}) => {
  await fc.assert(
    fc.asyncProperty(runs, async ({ rows, rest, indices, dtype, indexed }) => {
      const table = counting([rows, ...rest], dtype);
      const source = counting([...indices.shape, ...rest], dtype);
      const outside = isFloat(dtype) ? NaN : 0;
      const [x, s] = [upload(device, table, dtype), upload(device, source, dtype)];
      const at = upload(device, indices, indexed);
      const [y, z] = [gatherRows(x, at), scatterAddRows(rows, at, s)];
      expect([y.dtype, z.dtype]).toEqual([dtype, dtype === "bool" ? "i32" : dtype]);
      // A sum of several rows may need more digits than 16 bits have.
      const loose = dtype === "bf16" ? { relative: 2 ** -8 } : {};
      const added = reference.scatterAddRows(rows, indices, source);
      await Promise.all([
        expect(y).toBeClose(reference.gatherRows(table, indices, outside)),
        expect(z).toBeClose(added, loose),
      ]);
      if (!isFloat(dtype)) return;

      const [dx] = grad(gatherRows(requireGrad(x), at), [x], { cotangent: s });
      const [ds] = grad(scatterAddRows(rows, at, requireGrad(s)), [s], { cotangent: x });
      expect([dx?.dtype, ds?.dtype]).toEqual([dtype, dtype]);
      await Promise.all([
        expect(dx as Tensor).toBeClose(added, loose),
        expect(ds as Tensor).toBeClose(reference.gatherRows(table, indices, 0)),
      ]);
    }),
    { numRuns: 200, seed: 61 },
  );
});

test("200 random picks of the last axis agree with their definition, and so do their gradients", async ({ device }) => {
  await fc.assert(
    fc.asyncProperty(runs, async ({ rows: width, indices, dtype, indexed }) => {
      const shape = [...indices.shape, width];
      const plain = counting(shape, dtype);
      const x = upload(device, plain, dtype);
      const at = upload(device, indices, indexed);
      const y = gatherLast(x, at);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(reference.gatherLast(plain, indices, isFloat(dtype) ? NaN : 0));
      if (!isFloat(dtype)) return;
      const dy = counting(indices.shape);
      const [dx] = grad(gatherLast(requireGrad(x), at), [x], { cotangent: upload(device, dy, dtype) });
      expect(dx?.dtype).toBe(dtype);
      await expect(dx as Tensor).toBeClose(reference.putLast(shape, indices, dy));
    }),
    { numRuns: 200, seed: 62 },
  );
});

test("indices may be given as numbers, nested or in a typed array", async ({ device }) => {
  const x = upload(device, counting([3, 2]));
  await expect(gatherRows(x, 2)).toBeClose({ shape: [2], values: [5, 6] });
  await expect(gatherRows(x, [[2, 0]])).toBeClose({ shape: [1, 2, 2], values: [5, 6, 1, 2] });
  await expect(gatherRows(x, Uint32Array.of(1))).toBeClose({ shape: [1, 2], values: [3, 4] });
  await expect(gatherRows(x, [])).toBeClose({ shape: [0, 2], values: [] });
  await expect(gatherLast(x, [1, 0, 1])).toBeClose([2, 3, 6]);
  await expect(scatterAddRows(2, Int32Array.of(1, 1, 0), x)).toBeClose({ shape: [2, 2], values: [5, 6, 4, 6] });
});

test("each has its slope for a gradient", async ({ random }) => {
  await checkGradients(
    (x) =>
      gatherRows(x, [
        [4, 1, 1],
        [0, 4, 1],
      ]),
    [random.normal([5, 3])],
  );
  await checkGradients((x) => scatterAddRows(4, [3, 0, 3, 3, 1], x), [random.normal([5, 3])]);
  await checkGradients(
    (x) =>
      gatherLast(x, [
        [2, 0],
        [1, 1],
      ]),
    [random.normal([2, 2, 3])],
  );
});

test("rows of one index are added in their order: the same bits as a loop in f32, for any number of them", async ({
  device,
  random,
}) => {
  for (const positions of [1, 63, 64, 65, 257, 1000]) {
    const source = random.normals(positions * 3, 1e3);
    const indices = Int32Array.from({ length: positions }, () => random.integer(0, 5));
    const want = new Float32Array(15);
    for (const [p, row] of indices.entries()) {
      for (let c = 0; c < 3; c++) want[row * 3 + c]! += source[p * 3 + c] as number;
    }
    const run = (): Tensor => scatterAddRows(5, indices, tensor(device, source, { shape: [positions, 3] }));
    await expect(run()).toBeClose({ shape: [5, 3], values: want });
  }
});

test("NaN and infinities stay in their rows", async ({ device }) => {
  const x = upload(device, { shape: [4, 1], values: [NaN, Infinity, 2, 3] });
  await expect(gatherRows(x, [3, 0, 1])).toBeClose({ shape: [3, 1], values: [3, NaN, Infinity] });
  await expect(scatterAddRows(4, [0, 1, 3, 3], x)).toBeClose({ shape: [4, 1], values: [NaN, Infinity, 0, 5] });
});

test("more elements than 65,535 workgroups hold are all gathered and all added", async ({ device }) => {
  const width = 65_536 * 32 + 67;
  const x = arange(device, 0, width, 1, "i32").alias([1, width]);
  const y = gatherRows(x, [0, 0]);
  expect((await y.read()).every((v, i) => v === i % width)).toBe(true);
  expect((await scatterAddRows(1, [0, 0], y).read()).every((v, i) => v === 2 * i)).toBe(true);
  const scores = arange(device, 0, 2 * width, 1, "i32").alias([2 * width, 1]);
  const picked = await gatherLast(scores, new Int32Array(2 * width)).read();
  expect(picked.every((v, i) => v === i)).toBe(true);
});

const small = openDevice({ limits: { maxStorageBufferBindingSize: 256 } });
afterAll(async () => (await small).destroy());

test("a table larger than one binding is read and added up across its windows", async () => {
  const device = await small;
  const plain: Plain = { shape: [50, 5], values: Array.from({ length: 250 }, (_, i) => i % 127) };
  const indices: Plain = { shape: [4], values: [49, 13, 0, 49] };
  const source: Plain = counting([4, 5]);
  for (const dtype of ["f32", "bf16"] as const) {
    const x = requireGrad(upload(device, plain, dtype));
    const y = gatherRows(x, indices.values as number[]);
    await expect(y).toBeClose(reference.gatherRows(plain, indices, NaN));
    const [dx] = grad(y, [x], { cotangent: upload(device, source, dtype) });
    await expect(dx as Tensor).toBeClose(reference.scatterAddRows(50, indices, source));
  }
});

test("a mistake is told with the op, the index and the rows, before any work on the device", ({ device }) => {
  const x = upload(device, counting([2, 3]));
  const scalar = upload(device, { shape: [], values: [1] });
  expect(() => gatherRows(x, [0, 2])).toThrow("gatherRows: 2 is no index: x [2, 3] has 2 rows");
  expect(() => gatherRows(x, [[-1]])).toThrow("gatherRows: -1 is no index: x [2, 3] has 2 rows");
  expect(() => gatherRows(x, [0.5])).toThrow("gatherRows: 0.5 is no index");
  expect(() => gatherRows(x, [true])).toThrow("gatherRows: true is no index");
  expect(() => gatherRows(x, tensor(device, [1]))).toThrow("gatherRows: indices [1] are f32, not i32 or u32");
  expect(() => gatherRows(scalar, [0])).toThrow("gatherRows: x is a scalar and has no rows");
  expect(() => gatherLast(scalar, [0])).toThrow("gatherLast: x is a scalar and has no last axis");
  expect(() => gatherLast(x, [0, 3])).toThrow("gatherLast: 3 is no index: the last axis of x [2, 3] is 3");
  expect(() => gatherLast(x, [0])).toThrow("gatherLast: the indices are [1], x [2, 3] without its last axis is not");
  expect(() => scatterAddRows(2, [0, 5], x)).toThrow("scatterAddRows: 5 is no index: the result has 2 rows");
  expect(() => scatterAddRows(2, [0], x)).toThrow(
    "scatterAddRows: the source [2, 3] does not begin with the indices [1]",
  );
  expect(() => scatterAddRows(-1, [0], x)).toThrow("scatterAddRows: -1 is no number of rows");
});
