import { expect, test } from "vitest";
import { quantile, summarize } from "./statistics.ts";

test("a distribution, as worked out by hand", () => {
  expect(summarize([4, 1, 3, 2])).toEqual({
    mean: 2.5,
    std: Math.sqrt(1.25),
    min: 1,
    max: 4,
    median: 2.5,
    percentile_95: expect.closeTo(3.85, 12) as number,
  });
  expect(summarize([7])).toEqual({ mean: 7, std: 0, min: 7, max: 7, median: 7, percentile_95: 7 });
  expect(summarize([100, 9]).median).toBe(54.5);
  expect(summarize([]).max).toBe(0);
});

test("the sort is by number, and the list stays as it was", () => {
  const values = [10, 9, 100];
  expect(summarize(values)).toMatchObject({ min: 9, max: 100, median: 10 });
  expect(values).toEqual([10, 9, 100]);
  expect(quantile([0, 10, 20], 0.25)).toBe(5);
});

test("a million rows need no deep stack", () => {
  expect(summarize(Array.from({ length: 1_000_000 }, (_, i) => i)).mean).toBe(499_999.5);
});
