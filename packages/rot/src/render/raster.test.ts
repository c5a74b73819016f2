import { expect, test } from "vitest";
import { FontError } from "./error.ts";
import { maxGlyphPixels, type PathCommand, rasterize } from "./raster.ts";

function polygon(...points: readonly (readonly [number, number])[]): PathCommand[] {
  return [...points.map(([x, y], i): PathCommand => ({ type: i === 0 ? "M" : "L", x, y })), { type: "Z" }];
}

const box = (x0: number, y0: number, x1: number, y1: number) => polygon([x0, y0], [x1, y0], [x1, y1], [x0, y1]);

test("coverage is the exact area, whichever way a contour turns", () => {
  const expected = { left: 1, top: -2, width: 3, height: 2, coverage: Uint8Array.of(32, 64, 32, 128, 255, 128) };
  expect(rasterize(box(1.5, -1.25, 3.5, 0))).toEqual(expected);
  expect(
    rasterize(
      box(1.5, -1.25, 3.5, 0)
        .toReversed()
        .filter(({ type }) => type !== "Z")
        .map((c, i) => ({ ...c, type: i === 0 ? "M" : "L" }) as PathCommand),
    ),
  ).toEqual(expected);
});

test("overlapping contours of one direction fill, of the other cut holes", () => {
  expect([...rasterize([...box(0, 0, 3, 1), ...box(1, 0, 2, 1)]).coverage]).toEqual([255, 255, 255]);
  expect([...rasterize([...box(0, 0, 3, 1), ...polygon([1, 0], [1, 1], [2, 1], [2, 0])]).coverage]).toEqual([
    255, 0, 255,
  ]);
});

test("a triangle across many pixels of a row is exact in each", () => {
  expect([...rasterize(polygon([0, 1], [4, 0], [4, 1])).coverage]).toEqual([32, 96, 160, 224]);
  expect([...rasterize(polygon([0, 0], [4, 0], [0, 1])).coverage]).toEqual([224, 160, 96, 32]);
});

test("curves keep the area of a circle", () => {
  const k = 0.5522847498;
  const r = 40;
  const cubic: PathCommand[] = [
    { type: "M", x: r, y: 0 },
    { type: "C", x1: r, y1: k * r, x2: k * r, y2: r, x: 0, y: r },
    { type: "C", x1: -k * r, y1: r, x2: -r, y2: k * r, x: -r, y: 0 },
    { type: "C", x1: -r, y1: -k * r, x2: -k * r, y2: -r, x: 0, y: -r },
    { type: "C", x1: k * r, y1: -r, x2: r, y2: -k * r, x: r, y: 0 },
  ];
  const total = (path: PathCommand[]) => rasterize(path).coverage.reduce((sum, one) => sum + one, 0) / 255;
  expect(Math.abs(total(cubic) / (Math.PI * r * r) - 1)).toBeLessThan(0.003);
  // A parabola over a chord covers two thirds of its control triangle.
  const quadratic: PathCommand[] = [
    { type: "M", x: 0, y: 0 },
    { type: "Q", x1: 50, y1: 80, x: 100, y: 0 },
  ];
  expect(Math.abs(total(quadratic) / ((2 / 3) * 4000) - 1)).toBeLessThan(0.003);
});

test("random polygons agree with counting samples", () => {
  let state = 12345;
  const random = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) / 2 ** 32;
  for (let trial = 0; trial < 60; trial++) {
    const points = Array.from({ length: 3 }, () => [random() * 12 - 4, random() * 9 - 3] as const);
    const { left, top, width, height, coverage } = rasterize(polygon(...points));
    const side = (p: number, q: number, x: number, y: number) =>
      (points[q]![0] - points[p]![0]) * (y - points[p]![1]) - (points[q]![1] - points[p]![1]) * (x - points[p]![0]);
    const samples = 16;
    for (let i = 0; i < width * height; i++) {
      let inside = 0;
      for (let s = 0; s < samples * samples; s++) {
        const x = left + (i % width) + ((s % samples) + 0.5) / samples;
        const y = top + Math.floor(i / width) + (Math.floor(s / samples) + 0.5) / samples;
        const sides = [side(0, 1, x, y), side(1, 2, x, y), side(2, 0, x, y)];
        if (sides.every((v) => v >= 0) || sides.every((v) => v <= 0)) inside++;
      }
      expect(Math.abs(coverage[i]! - (255 * inside) / samples ** 2), `trial ${trial}, pixel ${i}`).toBeLessThan(16);
    }
  }
});

test("nothing, points and lines have no ink; open contours are closed", () => {
  expect(rasterize([]).coverage).toHaveLength(0);
  expect(rasterize(polygon([3, 4])).width).toBe(0);
  expect(rasterize(polygon([0, 0], [5, 0])).height).toBe(0);
  expect([...rasterize(box(0, 0, 1, 1).slice(0, 4)).coverage]).toEqual([255]);
});

test("outlines without bounds are refused", () => {
  expect(() => rasterize(box(0, 0, 1e6, 1e6))).toThrow(FontError);
  expect(() => rasterize(box(0, 0, NaN, 1))).toThrow(FontError);
  expect(() => rasterize(box(0, 0, maxGlyphPixels + 1, 1))).toThrow(/at most 4194304/);
});
