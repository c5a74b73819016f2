import { readImageProcessorConfig, ImageProcessor } from "@rot/models";
import { expect, test } from "@rot/tensor/testing";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { openShippedBase } from "../../tiny/node/shipped.ts";
import { createStrips, processorConfig, stripRenderer } from "../../tiny/strips.ts";
import { nearestCells } from "./drawn.ts";

test("what the tower sees in a cell is nearest to that cell, whose pixels are shown", async ({ device }) => {
  const { model } = await openShippedBase(device);
  const font = await dejaVuSans();
  const renderer = await stripRenderer(font);
  const processor = new ImageProcessor(readImageProcessorConfig(JSON.stringify(processorConfig)));
  const seen = (await createStrips(device, font)).see(model, [[3, 6, 7, 9, 1]]);
  const values = (await seen.read()) as Float32Array;
  const rows = [4, 0, 2].map((i) => values.subarray(i * model.width, (i + 1) * model.width));
  const latents = [...rows, rows[0]!.map((value) => -2 * value)];
  const cells = await nearestCells(model, { renderer, processor, encoding: "exact" }, "3, 6, 7, 9, 1", latents);
  expect(cells.slice(0, 3).map(({ cell }) => cell)).toEqual([4, 0, 2]);
  for (const { cosine } of cells.slice(0, 3)) expect(cosine).toBeCloseTo(1, 4);
  expect(cells[2]?.inPlace).toBeCloseTo(1, 4);
  expect(cells[3]?.cell).not.toBe(4);
  const strip = renderer.strip("3, 6, 7, 9, 1");
  const picture = cells[1]!.picture!;
  expect([picture.width, picture.height]).toEqual([32, 32]);
  for (let y = 0; y < 32; y++) {
    expect(picture.data.subarray(y * 32, y * 32 + 32)).toEqual(
      strip.data.subarray(y * strip.width, y * strip.width + 32),
    );
  }
  const [beyond] = await nearestCells(model, { renderer, processor, encoding: "exact" }, "3", [rows[0]!]);
  expect(beyond?.cell).toBe(0);
});
