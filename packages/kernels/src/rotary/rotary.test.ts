import { type Shape, ShapeError, size, tensor, zeros } from "@rot/tensor";
import { checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, dtypes, runs, toleranceOf } from "../../test/tools/agree.ts";
import { cases } from "./rotary.cases.ts";
import { rotary } from "./rotary.ts";

checkOp(cases);

test("what does not fit is refused before any GPU work", ({ device, random }) => {
  const x = random.normal([2, 5, 3, 8]);
  const table = random.normal([5, 8]);
  const turn = (tables: typeof x, heads: boolean) => () => rotary(x, tables, tables, { heads });
  expect(turn(table, true)).not.toThrow();
  expect(turn(table, false)).toThrow(new ShapeError("rotary: the tables [5, 8] do not fit x [2, 5, 3, 8]"));
  expect(turn(random.normal([3, 8]), true)).toThrow("[3, 8] do not fit x [2, 5, 3, 8] [B, L, heads, K]");
  expect(turn(random.normal([5, 1]), true)).toThrow("do not fit");
  expect(turn(random.normal([1, 2, 5, 3, 8]), false)).toThrow("do not fit");
  expect(() => rotary(x, table, random.normal([1, 8]), { heads: true })).toThrow("cos is [5, 8], but sin is [1, 8]");
  expect(() => rotary(random.normal([3]), table, table, { heads: false })).toThrow("has no halves");
  expect(() => rotary(x, table, zeros(device, [5, 8], "i32"), { heads: true })).toThrow("sin is i32");
});

test("a quarter turn exchanges the halves, and the length of every pair stays", async ({ device }) => {
  const x = tensor(device, [[1, 2, 3, 4]]);
  const quarter = rotary(x, zeros(device, [4]), zeros(device, [4]).add(1), { heads: false });
  await expect(quarter).toBeClose({ shape: [1, 4], values: [-3, -4, 1, 2] });
});

test("no tokens, no heads and no width give nothing", ({ device }) => {
  for (const [shape, table] of [
    [
      [2, 0, 3, 8],
      [0, 8],
    ],
    [
      [2, 5, 0, 8],
      [5, 8],
    ],
    [
      [2, 5, 3, 0],
      [5, 0],
    ],
  ] as const) {
    const t = zeros(device, table);
    expect(rotary(zeros(device, shape), t, t, { heads: true }).shape).toEqual(shape);
  }
});

test("more pairs than one row of workgroups holds are all turned", async ({ device }) => {
  const shape = [3_000_000, 2];
  const x = zeros(device, shape).add(1);
  const y = await rotary(x, zeros(device, shape), zeros(device, shape).add(2), { heads: false }).read();
  expect(y.length).toBe(size(shape));
  expect(y.every((v, i) => v === (i % 2 === 0 ? -2 : 2))).toBe(true);
});

test("at 200 random shapes, tables and dtypes it agrees with its reference, forward and backward", async ({
  random,
}) => {
  const length = fc.integer({ min: 0, max: 5 });
  const point = fc
    .record({
      lead: fc.array(length, { maxLength: 4 }),
      halves: fc.integer({ min: 1, max: 12 }),
      heads: fc.boolean(),
      repeated: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      dropped: fc.integer({ min: 0, max: 4 }),
      of: dtypes,
      needs: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
    })
    .map(({ lead, halves, heads, repeated, dropped, ...rest }) => {
      const K = 2 * halves;
      const x: Shape = [...lead, K];
      const last = heads && lead.length > 0;
      const full = (last ? lead.slice(0, -1) : lead).map((n, i) => (repeated[i] ? 1 : n));
      return { x, table: [...full.slice(Math.min(dropped, full.length)), K], heads: last, ...rest };
    });
  await fc.assert(
    fc.asyncProperty(point, ({ x, table, heads, of: [dtype, tables], needs }) =>
      agree(rotary, random, {
        inputs: [random.normal(x, 1, dtype), random.normal(table, 1, tables), random.normal(table, 1, tables)],
        params: { heads },
        // Sums over many rows are as rough as the reference, which rounds every term.
        needs: dtype === "f32" ? needs : [needs[0], false, false],
        tolerance: toleranceOf(dtype, tables),
      }),
    ),
    runs,
  );
});
