import fc from "fast-check";
import { expect, test } from "vitest";
import { binsOf, histogram } from "./histogram.ts";

test("few values have a bin each", () => {
  expect(binsOf([3, 5, 5, 7])).toEqual({ start: 3, width: 1, counts: [1, 0, 2, 0, 1], beyond: 0 });
  expect(binsOf([4, 4])).toEqual({ start: 4, width: 1, counts: [2], beyond: 0 });
});

test("a few far values are counted, not drawn", () => {
  const values = [...Array.from({ length: 1000 }, (_, i) => i % 100), 100_000];
  const { counts, beyond, width } = binsOf(values);
  expect([beyond, width]).toEqual([1, 5]);
  expect(counts).toHaveLength(20);
  expect(histogram(values, "pixels").text).toContain("1 rows beyond are not drawn");
});

test("every value is in its bin, and there are no more than 41", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 300 }), (values) => {
      const { start, width, counts, beyond } = binsOf(values);
      expect(counts.length).toBeLessThanOrEqual(41);
      expect(start).toBeLessThanOrEqual(Math.min(...values));
      const drawn = counts.map((_, i) => values.filter((v) => Math.floor((v - start) / width) === i).length);
      expect(counts).toEqual(drawn);
      expect(drawn.reduce((a, b) => a + b) + beyond).toBe(values.length);
    }),
  );
});

test("the drawing has bars, its ticks and its marks", () => {
  const { text } = histogram([1, 1, 2, 9], "tok<ens", [
    { label: "median & co", value: 1.5 },
    { label: "far", value: 99 },
  ]);
  expect(text.match(/<rect/g)).toHaveLength(3); // empty bins have none
  expect(text).toContain("<title>1 tok&lt;ens: 2 rows</title>");
  expect(text).toContain("median &amp; co");
  expect(text).not.toContain("far");
});
