import fc from "fast-check";
import { anyDtype, type Plain, upload } from "../../test/tools/arrays.ts";
import { broadcastable, zip } from "../../test/tools/broadcasting.ts";
import { noise, stored } from "../../test/tools/lines.ts";
import { isFloat, promote } from "../dtype.ts";
import { UsageError } from "../errors.ts";
import { requireGrad } from "../tape.ts";
import { expect, test } from "../testing.ts";
import { compare, type CompareName, logicalAnd, logicalNot, logicalOr } from "./compare.ts";
import { full, tensor } from "./create.ts";

const plain: Record<CompareName, (a: number, b: number) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};
const names = ["eq", "ne", "lt", "le", "gt", "ge"] as const satisfies readonly CompareName[];

test("comparisons broadcast and promote, in 200 random shapes and dtypes", async ({ device }) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(broadcastable(2), anyDtype, anyDtype, seeds, async ([p, q], da, db, seed) => {
      const dtype = promote(da, db);
      // Few different values, so that many are equal.
      const few = (x: Plain): Plain => ({
        shape: x.shape,
        values: x.values.map((v) => stored(dtype, isFloat(dtype) ? Math.round(v) : v % 3)),
      });
      const a = few(noise(device, seed, p as number[], da));
      const b = few(noise(device, seed + 1, q as number[], db));
      for (const name of names) {
        const y = compare[name](upload(device, a, da), upload(device, b, db));
        expect(y.dtype).toBe("bool");
        await expect(y).toBeClose(zip([a, b], (v, w) => Number(plain[name](stored(dtype, v), stored(dtype, w)))));
      }
    }),
    { numRuns: 200, seed: 41 },
  );
});

test.for(names)(
  "%s of infinities, zeros and NaN is what IEEE has, and takes a number on either side",
  async (name, { device }) => {
    const edges = [0, -0, 1, -1, Infinity, -Infinity, Number.NaN, 3e38, 1.2e-38];
    const pairs = edges.flatMap((a) => edges.map((b) => [a, b] as const));
    const [a, b] = [0, 1].map((side) => Float32Array.from(pairs, (pair) => pair[side] as number)) as [
      Float32Array,
      Float32Array,
    ];
    const want = pairs.map(([v, w]) => Number(plain[name](Math.fround(v), Math.fround(w))));
    await expect(compare[name](tensor(device, a), tensor(device, b))).toBeClose(want);
    for (const number of [0, 1, Infinity, Number.NaN, 0.5]) {
      const x = tensor(device, a);
      await expect(compare[name](x, number)).toBeClose(Array.from(a, (v) => Number(plain[name](v, number))));
      await expect(compare[name](number, x)).toBeClose(Array.from(a, (v) => Number(plain[name](number, v))));
    }
  },
);

test("integers are compared to the last bit, and beside a fraction as f32", async ({ device }) => {
  const x = tensor(device, Int32Array.of(2 ** 24, 2 ** 24 + 1, -(2 ** 31)));
  await expect(compare.eq(x, 2 ** 24 + 1)).toBeClose([0, 1, 0]);
  await expect(compare.lt(x, -0.5)).toBeClose([0, 0, 1]);
  await expect(compare.gt(tensor(device, Uint32Array.of(2 ** 31, 5)), 2 ** 31 - 1)).toBeClose([1, 0]);
  await expect(compare.ge(tensor(device, [true, false]), 1)).toBeClose([1, 0]);
});

test("no gradient flows through a comparison", ({ device }) => {
  expect(compare.lt(requireGrad(full(device, [2], 1)), 2).requiresGrad).toBe(false);
});

test("logic takes anything but 0 for true, and broadcasts", async ({ device }) => {
  const a = tensor(device, [[0], [-2], [Number.NaN]]);
  const b = tensor(device, Int32Array.of(0, 7));
  await expect(logicalAnd(a, b)).toBeClose({ shape: [3, 2], values: [0, 0, 0, 1, 0, 1] });
  await expect(logicalOr(a, b)).toBeClose({ shape: [3, 2], values: [0, 1, 1, 1, 1, 1] });
  await expect(logicalNot(a)).toBeClose({ shape: [3, 1], values: [1, 0, 0] });
  expect(logicalAnd(a, b).dtype).toBe("bool");
});

test("shapes that do not broadcast, and two numbers, are refused by name", ({ device }) => {
  const [a, b] = [full(device, [2, 3], 1), full(device, [4], 1)];
  expect(() => compare.lt(a, b)).toThrow("lt: [2, 3] and [4] do not broadcast");
  expect(() => logicalOr(a, b)).toThrow("logicalOr: [2, 3] and [4] do not broadcast");
  expect(() => compare.eq(1, 2)).toThrow(UsageError);
});
