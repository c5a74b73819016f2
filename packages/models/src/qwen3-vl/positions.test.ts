import { ShapeError } from "@rot/tensor";
import { expect, test } from "vitest";
import { tinyConfig } from "../../test/tools/tiny-qwen3-vl.ts";
import { parseQwen3VlConfig } from "./config.ts";
import { frameEnds, patchesOf, samplePositions } from "./patches.ts";
import { layOut } from "./positions.ts";

const config = parseQwen3VlConfig(tinyConfig);
const I = config.imageToken;

/** [3, L] of one sequence. */
const axes = (positions: Int32Array): number[][] => {
  const L = positions.length / 3;
  return [0, 1, 2].map((axis) => Array.from(positions.subarray(axis * L, (axis + 1) * L)));
};

test("text counts on all three axes", () => {
  expect(axes(layOut(config, [[5, 6, 7]], []).positions)).toEqual([
    [0, 1, 2],
    [0, 1, 2],
    [0, 1, 2],
  ]);
});

test("an image spreads over height and width, and text goes on after its longer side", () => {
  const { positions, imageRows } = layOut(config, [[5, I, I, I, I, I, I, 6]], [[1, 4, 6]]);
  expect(axes(positions)).toEqual([
    [0, 1, 1, 1, 1, 1, 1, 4],
    [0, 1, 1, 1, 2, 2, 2, 4],
    [0, 1, 2, 3, 1, 2, 3, 4],
  ]);
  expect(Array.from(imageRows)).toEqual([1, 2, 3, 4, 5, 6]);
});

test("frames stand one after the other in time", () => {
  const { positions } = layOut(config, [[I, I, 5]], [[2, 2, 2]]);
  expect(axes(positions)).toEqual([
    [0, 1, 2],
    [0, 0, 2],
    [0, 0, 2],
  ]);
});

test("padding counts for nothing, and images go to the sequences in order", () => {
  const { positions, imageRows } = layOut(
    config,
    [
      [0, 0, 5, I],
      [I, I, 6, 0],
    ],
    [
      [1, 2, 2],
      [1, 2, 4],
    ],
    [
      [2, 4],
      [0, 3],
    ],
  );
  expect(axes(positions)).toEqual([
    [0, 0, 0, 1, 0, 0, 2, 0],
    [0, 0, 0, 1, 0, 0, 2, 0],
    [0, 0, 0, 1, 0, 1, 2, 0],
  ]);
  expect(Array.from(imageRows)).toEqual([3, 4, 5]);
});

test.for([
  ["sequences of two lengths", [[1, 2], [1]], [], /sequence 1 has 1 tokens, sequence 0 has 2/],
  ["an image without a grid", [[I]], [], /more images than the 0 grids/],
  ["a grid without an image", [[1]], [[1, 2, 2]], /hold 0 images, but there are 1 grids/],
  ["an image cut short", [[I, I, 5]], [[1, 4, 4]], /takes 4 image tokens.*only 2 stand together/],
  ["an image beyond the sequence", [[5, I]], [[1, 2, 4]], /only 1 stand together/],
  ["a video", [[config.videoToken]], [], /is a video's/],
  ["a grid of half blocks", [[I]], [[1, 3, 2]], /multiples of 2/],
  ["a grid of nothing", [[I]], [[0, 2, 2]], /whole numbers above 0/],
] as const)("%s is refused", ([, ids, grids, message]) => {
  expect(() => layOut(config, ids, grids)).toThrow(ShapeError);
  expect(() => layOut(config, ids, grids)).toThrow(message);
});

test("a span outside the tokens is refused", () => {
  expect(() => layOut(config, [[1, 2]], [], [[1, 3]])).toThrow("rows 1 to 3, of 2");
});

test("patches come block by block, and each frame begins anew", () => {
  const { rows, columns } = patchesOf([[2, 2, 4]], 2);
  expect(Array.from(rows)).toEqual([0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]);
  expect(Array.from(columns)).toEqual([0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]);
  expect(
    frameEnds([
      [2, 2, 4],
      [1, 2, 2],
    ]),
  ).toEqual([0, 8, 16, 20]);
});

test("the corners of an image meet those of the table, and weights add up to 1", () => {
  const { entries, weights } = samplePositions([[1, 4, 6]], 2, 5);
  const { rows, columns } = patchesOf([[1, 4, 6]], 2);
  for (let p = 0; p < rows.length; p++) {
    const own = weights.subarray(4 * p, 4 * p + 4);
    expect(own.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    const [y, x] = [rows[p] as number, columns[p] as number];
    // What is sampled from a table that holds its own row and column.
    const read = (of: (entry: number) => number): number =>
      own.reduce((sum, weight, i) => sum + weight * of(entries[4 * p + i] as number), 0);
    expect(read((entry) => Math.floor(entry / 5))).toBeCloseTo((y * 4) / 3, 5);
    expect(read((entry) => entry % 5)).toBeCloseTo((x * 4) / 5, 5);
  }
});
