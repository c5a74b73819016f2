/** Positions of tokens and images on the three axes of time, height and width. On the host. */
import { ShapeError } from "@rot/tensor";
import { type Span, spansOf } from "../kv-cache.ts";
import type { Grid, Layout } from "../vision-language-model.ts";
import type { Qwen3VlConfig } from "./config.ts";
import { checkGrids } from "./patches.ts";

/** A token of text, as an image of one block. */
const TEXT: Grid = [1, 1, 1];

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

  for (const [b, sequence] of ids.entries()) {
    const [begin, end] = spans[b] as Span;
    let next = 0;
    for (let l = begin; l < end;) {
      const id = sequence[l];
      if (id === videoToken)
        throw new ShapeError(`layOut: token ${l} of sequence ${b} is a video's; only images are read`);
      const isImage = id === imageToken;
      const grid = isImage ? grids[image] : TEXT;
      if (!grid) throw new ShapeError(`layOut: the tokens hold more images than the ${grids.length} grids`);
      const [frames, height, width] = isImage ? [grid[0], grid[1] / merge, grid[2] / merge] : grid;
      const tokens = frames * height * width;
      for (let i = 0; i < tokens; i++) {
        if (l + i >= end || sequence[l + i] !== id) {
          throw new ShapeError(
            `layOut: image ${image} of grid [${grid.join(", ")}] takes ${tokens} image tokens (id ${imageToken}), but only ${i} stand together`,
          );
        }
        const row = b * L + l + i;
        positions[row] = next + Math.floor(i / (height * width));
        positions[plane + row] = next + (Math.floor(i / width) % height);
        positions[2 * plane + row] = next + (i % width);
        if (isImage) imageRows.push(row);
      }
      if (isImage) image++;
      l += tokens;
      next += Math.max(frames, height, width);
    }
  }
  if (image < grids.length) {
    throw new ShapeError(`layOut: the tokens hold ${image} images, but there are ${grids.length} grids`);
  }
  return { positions, imageRows: Int32Array.from(imageRows) };
}
