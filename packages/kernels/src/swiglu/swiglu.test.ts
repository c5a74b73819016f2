import { ShapeError, tensor, zeros } from "@rot/tensor";
import { checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, dtypes, runs, shapeOf, toleranceOf, widths } from "../../test/tools/agree.ts";
import { cases } from "./swiglu.cases.ts";
import { swiglu, swigluOp } from "./swiglu.ts";

checkOp(cases);

test("two shapes and whole numbers are refused before any GPU work", ({ device, random }) => {
  expect(() => swiglu(random.normal([2, 8]), random.normal([8]))).toThrow(
    new ShapeError("swiglu: gate is [2, 8], but up is [8]"),
  );
  expect(() => swiglu(random.normal([2]), zeros(device, [2], "u32"))).toThrow("swiglu: up is u32");
});

test("a gate far below zero is closed and one far above is open: nothing overflows", async ({ device }) => {
  const gate = tensor(device, [-1000, -100, 0, 100, 1000, Number.NaN]);
  const up = tensor(device, [3, 3, 3, 3, 3, 3]);
  await expect(swiglu(gate, up)).toBeClose([0, 0, 0, 300, 3000, Number.NaN], { absolute: 1e-30, relative: 1e-6 });
});

test("more vectors than one row of workgroups holds are all computed", async ({ device }) => {
  const n = 65_535 * 64 + 67; // single elements: n is no multiple of 4
  const y = await swiglu(zeros(device, [n]).add(20), zeros(device, [n]).add(0.5)).read();
  expect(y.every((v) => Math.abs(v - 10) < 1e-4)).toBe(true);
});

test("at 200 random shapes and dtypes it agrees with its reference, forward and backward", async ({ random }) => {
  const point = fc.record({ shape: shapeOf(widths), of: dtypes, needs: fc.tuple(fc.boolean(), fc.boolean()) });
  await fc.assert(
    fc.asyncProperty(point, ({ shape, of: [gate, up], needs }) =>
      agree(swigluOp, random, {
        inputs: [random.normal(shape, 3, gate), random.normal(shape, 1, up)],
        params: undefined,
        needs,
        tolerance: toleranceOf(gate, up),
      }),
    ),
    runs,
  );
});
