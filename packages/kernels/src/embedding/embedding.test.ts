import { grad, openDevice, requireGrad, ShapeError, tensor, zeros } from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, runs, toleranceOf, widths } from "../../test/tools/agree.ts";
import { cases } from "./embedding.cases.ts";
import { embedding, embeddingOp } from "./embedding.ts";

checkOp(cases);

test("ids that are no rows give NaN and no gradient, with extra rows and without", async ({ device }) => {
  const ids = tensor(device, [-1, 0, 2, 3, 4, -(2 ** 31)], { dtype: "i32" });
  for (const width of [1, 4]) {
    const rows = (...values: number[]): number[] => values.flatMap((v) => Array<number>(width).fill(v));
    const table = requireGrad(tensor(device, Float32Array.from(rows(1, 2, 3)), { shape: [3, width] }));
    const extra = requireGrad(tensor(device, Float32Array.from(rows(9)), { shape: [1, width] }));
    await expect(embedding(ids, table)).toBeClose(rows(NaN, 1, 3, NaN, NaN, NaN));
    const y = embedding(ids, table, extra);
    await expect(y).toBeClose(rows(NaN, 1, 3, 9, NaN, NaN));
    const cotangent = zeros(device, y.shape).add(2);
    const [dtable, dextra] = grad(y, [table, extra], { cotangent }) as [typeof table, typeof table];
    await expect(dtable).toBeClose(rows(2, 0, 2));
    await expect(dextra).toBeClose(rows(2));
  }
});

test("a frozen table gets no gradient, and its extra rows get theirs alone", async ({ device, random }) => {
  const table = random.normal([1000, 8]);
  const extra = requireGrad(random.normal([2, 8]));
  const ids = tensor(device, [5, 1001, 999, 1001, 1000], { dtype: "i32" });
  const y = embedding(ids, table, extra);
  const [dextra] = grad(y.sum(), [extra]) as [typeof extra];
  await expect(dextra).toBeClose([...Array<number>(8).fill(1), ...Array<number>(8).fill(2)]);
});

test("a table larger than the largest binding is read through several", async () => {
  using small = await openDevice({ limits: { maxStorageBufferBindingSize: 65_536 }, notice: () => {} });
  const random = new Random(small);
  const [table, extra] = [random.normal([900, 64]), random.normal([3, 64])];
  const ids = random.integers([70], 0, 903);
  const want = embeddingOp.spec.reference?.([ids, table, extra], undefined) as typeof table;
  await expect(embedding(ids, table, extra)).toBeClose(want);
});

test("more elements than one row of workgroups holds are all copied", async ({ device }) => {
  const n = 65_535 * 256 + 67;
  const ids = zeros(device, [n], "i32");
  const y = await embedding(ids, tensor(device, [[7]])).read();
  expect(y.every((v) => v === 7)).toBe(true);
});

test("ids that are no integers and tables that do not fit are refused", ({ device, random }) => {
  const ids = zeros(device, [2], "i32");
  const table = random.normal([3, 4]);
  expect(() => embedding(zeros(device, [2]), table)).toThrow(
    new ShapeError("embedding: ids [2] are f32, not i32 or u32"),
  );
  expect(() => embedding(ids, random.normal([3]))).toThrow("table is [3] f32");
  expect(() => embedding(ids, table, random.normal([3, 5]))).toThrow("extra [3, 5] f32");
  expect(() => embedding(ids, table, random.normal([3, 4], 1, "bf16"))).toThrow("extra [3, 4] bf16");
  expect(() => embedding(ids, zeros(device, [3, 4], "i32"))).toThrow("table is i32");
});

test("at 200 random shapes and dtypes it agrees with its reference, forward and backward", async ({ random }) => {
  const point = fc.record({
    tokens: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 2 }),
    rows: fc.integer({ min: 0, max: 20 }),
    extraRows: fc.integer({ min: 0, max: 4 }),
    width: widths,
    dtype: fc.constantFrom("f32", "f32", "bf16", "f16"),
    needs: fc.tuple(fc.constant(false), fc.boolean(), fc.boolean()),
  });
  await fc.assert(
    fc.asyncProperty(point, ({ tokens, rows, extraRows, width, dtype, needs }) =>
      agree(embeddingOp, random, {
        inputs: [
          random.integers(tokens, -1, rows + extraRows + 1),
          random.normal([rows, width], 1, dtype),
          random.normal([extraRows, width], 1, dtype),
        ],
        params: undefined,
        needs,
        tolerance: toleranceOf(dtype),
      }),
    ),
    runs,
  );
});
