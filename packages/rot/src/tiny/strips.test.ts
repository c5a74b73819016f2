import { expect, test } from "@rot/tensor/testing";
import { dejaVuSans } from "../render/node/dejavu.ts";
import { createStrips, stripPixels, stripRenderer } from "./strips.ts";

test("strips that were put together from cells are those that the renderer draws", async ({ device }) => {
  const font = await dejaVuSans();
  const renderer = await stripRenderer(font);
  const strips = await createStrips(device, font);
  const chains = [
    [3],
    [1, 1],
    [7, 0, 4],
    [9, 8, 7, 6],
    [3, 6, 7, 9, 3],
    [0, 1, 2, 3, 4],
    [5, 6, 7, 8, 9],
    [1, 1, 8, 1, 1],
  ];
  const { pixels, grids } = strips.pixels(chains);
  expect(grids).toEqual(chains.map(({ length }) => [1, 2, 2 * length]));
  const want = chains.map((values) => stripPixels(renderer, values));
  expect(want.map(({ imageGridThw }) => imageGridThw[0])).toEqual(grids);
  expect(pixels.shape).toEqual([4 * chains.flat().length, want[0]?.patchLength]);
  expect(await pixels.read()).toEqual(Float32Array.from(want.flatMap(({ pixelValues }) => Array.from(pixelValues))));
});
