import fc from "fast-check";
import { expect, test } from "vitest";
import { lineChart } from "./line-chart.ts";
import { Thinned } from "./run/thinned.ts";

function thinned(values: readonly number[]): Thinned {
  const curve = new Thinned();
  for (const [i, value] of values.entries()) curve.add(i + 1, value);
  return curve;
}

test("a curve of any length keeps its mean and its extremes in at most 300 points", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 3000 }),
      (values) => {
        const { points } = thinned(values);
        expect(points.length).toBeLessThan(300);
        expect(points.reduce((sum, { count }) => sum + count, 0)).toBe(values.length);
        expect(Math.min(...points.map(({ least }) => least))).toBe(Math.min(...values));
        expect(Math.max(...points.map(({ most }) => most))).toBe(Math.max(...values));
        const mean = points.reduce((sum, { mean: own, count }) => sum + own * count, 0) / values.length;
        expect(mean).toBeCloseTo(values.reduce((a, b) => a + b) / values.length, 3);
        expect(points.map(({ x }) => x)).toEqual(points.map(({ x }) => x).toSorted((a, b) => a - b));
      },
    ),
    { numRuns: 50 },
  );
  expect(thinned([NaN, Infinity]).points).toEqual([]);
});

/** All coordinates of a drawing. */
const coordinates = (svg: string): number[] =>
  [...svg.matchAll(/points="([^"]*)"/g)].flatMap(([, list = ""]) => list.split(/[ ,]/).map(Number));

test("whatever the values, all is drawn within the picture", () => {
  const value = fc.oneof(fc.double({ min: -1e30, max: 1e30, noNaN: true }), fc.constantFrom(0, 1e-12, 5, 5, 1e9));
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 400 }), (values) => {
      const svg = lineChart("loss", [{ name: "loss", points: thinned(values).points }]).text;
      expect(svg).not.toMatch(/NaN|Infinity/);
      for (const at of coordinates(svg)) {
        expect(at).toBeGreaterThanOrEqual(-0.1);
        expect(at).toBeLessThanOrEqual(560.1);
      }
    }),
    { numRuns: 200, examples: [[[5e-324, 1e-12]], [[5e-324]], [[1, 1.7e308]]] },
  );
});

test("positive values over several powers of ten have a logarithmic axis, others have not", () => {
  const of = (values: readonly number[]): string =>
    lineChart("loss", [{ name: "<b>", points: thinned(values).points }]).text;
  expect(of([10, 1, 0.1, 0.01])).toContain("step · log");
  expect(of([10, 1, 0])).not.toContain("log");
  expect(of([3, 2, 1])).not.toContain("log");
  expect(of([1])).toContain("<circle");
  expect(of([1])).toContain("&lt;b&gt;");
  expect(lineChart("loss", []).text).toContain("nothing to draw");
  // Higher values are further up.
  const [, top, , bottom] = coordinates(of([4, 2]));
  expect(top).toBeLessThan(bottom as number);
});
