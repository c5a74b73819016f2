import { expect, test } from "vitest";
import { CELL, heatCell, latentPicture, scaleOf } from "./picture.ts";
import type { LatentView } from "./view.ts";

const pixel = (cell: Uint8Array, x: number, y: number): number[] =>
  Array.from(cell.subarray(3 * (y * CELL + x), 3 * (y * CELL + x) + 3));
const [blue, white, red] = [
  [33, 102, 172],
  [247, 247, 247],
  [178, 24, 43],
];

test("few numbers have squares of pixels, line by line; what is beyond them is paper", () => {
  const cell = heatCell(Float32Array.of(-9, 0, 9), 3);
  expect([pixel(cell, 0, 0), pixel(cell, 15, 15), pixel(cell, 16, 0), pixel(cell, 31, 15)]).toEqual([
    blue,
    blue,
    white,
    white,
  ]);
  expect([pixel(cell, 0, 16), pixel(cell, 16, 16)]).toEqual([red, [255, 255, 255]]);
});

test("of more numbers than pixels none that stands out is lost", () => {
  const values = new Float32Array(5 * CELL * CELL);
  values[12] = -4; // of pixel 2
  values[values.length - 1] = 4;
  const cell = heatCell(values, 4);
  expect([pixel(cell, 1, 0), pixel(cell, 2, 0), pixel(cell, CELL - 1, CELL - 1)]).toEqual([white, blue, red]);
});

test("the scale is three times the root mean square, and 1 of nothing", () => {
  expect(scaleOf([{ values: Float32Array.of(3, -3) }, { values: Float32Array.of(3) }])).toBeCloseTo(9, 6);
  expect([scaleOf([]), scaleOf([{ values: Float32Array.of(0) }])]).toEqual([1, 1]);
});

test("rows of at most 32 cells, below their title, with labels that are cut", () => {
  const view = { values: Float32Array.of(1) } as LatentView;
  const strip = (width: number, height: number) => ({
    width,
    height,
    channels: 1 as const,
    data: new Uint8Array(width * height),
    missing: 0,
  });
  const views = Array.from({ length: 33 }, () => view);
  const picture = latentPicture([{ title: strip(10, 20), views, labels: views.map(() => [strip(50, 5)]) }]);
  expect([picture.width, picture.height]).toEqual([32 * 34, 2 + 20 + 2 * (CELL + 5 + 2)]);
  const at = (x: number, y: number): number => picture.data[3 * (y * picture.width + x)] as number;
  // A label is black as far as its cell, and the gap stays.
  expect([at(CELL - 1, 22 + CELL), at(CELL, 22 + CELL), at(CELL + 2, 22 + CELL)]).toEqual([0, 255, 0]);
  expect(latentPicture([]).data).toHaveLength(2 * 3);
});
