/** Positions of tokens and images on the three axes of time, height and width. On the host. */
import { ShapeError } from "@rot/tensor";
import { type Span, spansOf } from "../kv-cache.ts";
import type { Grid, Layout } from "../vision-language-model.ts";
import type { Qwen3VlConfig } from "./config.ts";
import { checkGrids } from "./patches.ts";

/**
 * Text counts 0, 1, 2, … on all three axes. The merged blocks of an image that begins at s stand at time s + frame, height
 * s + row and width s + column; what follows counts on from the largest of them plus 1. Padding stands at 0.
 *
 * @param ids    one array for each sequence, all of one length
 * @param grids  one for each image, in the order of the batch
 * @param valid  which part of each sequence is not padding
 * @throws {ShapeError} when sequences differ in length, or image tokens and grids do not match
 * @see get_rope_index in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
export function layOut(
  { imageToken, videoToken, vision: { merge } }: Qwen3VlConfig,
  ids: readonly ArrayLike<number>[],
  grids: readonly Grid[],
  valid?: readonly Span[],
): Layout {
  checkGrids(grids, merge);
  const B = ids.length;
  const L = ids[0]?.length ?? 0;
  for (const [b, { length }] of ids.entries()) {
    if (length !== L) throw new ShapeError(`layOut: sequence ${b} has ${length} tokens, sequence 0 has ${L}; pad them`);
  }
  const spans = spansOf(B, L, valid);
  const plane = B * L;
  const positions = new Int32Array(3 * plane);
  const imageRows: number[] = [];
  let image = 0;

  /** Puts one image from row `begin` of the batch on; gives the rows it takes and the positions it uses up. */
  const putImage = (begin: number, room: number, start: number, sequence: ArrayLike<number>, from: number) => {
    const grid = grids[image];
    if (!grid) throw new ShapeError(`layOut: the tokens hold more images than the ${grids.length} grids`);
    const [frames, height, width] = [grid[0], grid[1] / merge, grid[2] / merge];
    const tokens = frames * height * width;
    for (let i = 0; i < tokens; i++) {
      if (i >= room || sequence[from + i] !== imageToken) {
        throw new ShapeError(
          `layOut: image ${image} of grid [${grid.join(", ")}] takes ${tokens} image tokens (id ${imageToken}), but only ${i} stand together`,
        );
      }
      const row = begin + i;
      positions[row] = start + Math.floor(i / (height * width));
      positions[plane + row] = start + (Math.floor(i / width) % height);
      positions[2 * plane + row] = start + (i % width);
      imageRows.push(row);
    }
    image++;
    return { tokens, extent: Math.max(frames, height, width) };
  };

  for (const [b, sequence] of ids.entries()) {
    const [begin, end] = spans[b] as Span;
    let next = 0;
    for (let l = begin; l < end;) {
      const row = b * L + l;
      const id = sequence[l];
      if (id === videoToken)
        throw new ShapeError(`layOut: token ${l} of sequence ${b} is a video's; only images are read`);
      if (id === imageToken) {
        const { tokens, extent } = putImage(row, end - l, next, sequence, l);
        l += tokens;
        next += extent;
      } else {
        for (let axis = 0; axis < 3; axis++) positions[axis * plane + row] = next;
        l++;
        next++;
      }
    }
  }
  if (image < grids.length) {
    throw new ShapeError(`layOut: the tokens hold ${image} images, but there are ${grids.length} grids`);
  }
  return { positions, imageRows: Int32Array.from(imageRows) };
}
