/** Where the patches of images lie: in their picture, and on the table of learned positions. On the host. */
import { ShapeError } from "@rot/tensor";
import type { Grid } from "../vision-language-model.ts";

/** @throws {ShapeError} when a grid cannot be cut into blocks of `merge` × `merge` patches */
export function checkGrids(grids: readonly Grid[], merge: number): void {
  for (const [i, grid] of grids.entries()) {
    const [, rows, columns] = grid;
    const isWhole = grid.length === 3 && grid.every((n) => Number.isSafeInteger(n) && n > 0);
    if (!isWhole || rows % merge !== 0 || columns % merge !== 0) {
      throw new ShapeError(
        `grid ${i} is [${grid.join(", ")}]: frames, rows and columns are whole numbers above 0, the last two multiples of ${merge}`,
      );
    }
  }
}

/** Patches of all images together. */
export const countPatches = (grids: readonly Grid[]): number =>
  grids.reduce((sum, [frames, rows, columns]) => sum + frames * rows * columns, 0);

/**
 * The row and the column of each patch of each frame, in the order of the pixels: a block of `merge` × `merge` patches
 * after the other, row by row, and so inside a block.
 */
export function patchesOf(grids: readonly Grid[], merge: number): { rows: Int32Array; columns: Int32Array } {
  const total = countPatches(grids);
  const rows = new Int32Array(total);
  const columns = new Int32Array(total);
  let at = 0;
  for (const [frames, height, width] of grids) {
    const across = width / merge;
    const inBlock = merge * merge;
    for (let i = 0; i < frames * height * width; i++, at++) {
      const inFrame = i % (height * width);
      const block = Math.floor(inFrame / inBlock);
      rows[at] = Math.floor(block / across) * merge + Math.floor((inFrame % inBlock) / merge);
      columns[at] = (block % across) * merge + (inFrame % merge);
    }
  }
  return { rows, columns };
}

/** Bilinear sampling of a square table: entries and their weights, four for each patch. */
export interface Samples {
  /** [P, 4], rows of the table [side², D]. */
  readonly entries: Int32Array;
  /** [P, 4] */
  readonly weights: Float32Array;
}

/**
 * Where each patch reads the table of learned positions: row r of h stands at r · (side − 1) / (h − 1), so that the
 * corners of every image meet those of the table.
 */
export function samplePositions(grids: readonly Grid[], merge: number, side: number): Samples {
  const { rows, columns } = patchesOf(grids, merge);
  const entries = new Int32Array(4 * rows.length);
  const weights = new Float32Array(4 * rows.length);
  const along = (index: number, length: number) => {
    const at = length > 1 ? (index * (side - 1)) / (length - 1) : 0;
    const low = Math.floor(at);
    return { low, high: Math.min(low + 1, side - 1), part: at - low };
  };
  let patch = 0;
  for (const [frames, height, width] of grids) {
    for (const end = patch + frames * height * width; patch < end; patch++) {
      const y = along(rows[patch] as number, height);
      const x = along(columns[patch] as number, width);
      entries.set(
        [y.low * side + x.low, y.low * side + x.high, y.high * side + x.low, y.high * side + x.high],
        4 * patch,
      );
      weights.set(
        [(1 - y.part) * (1 - x.part), (1 - y.part) * x.part, y.part * (1 - x.part), y.part * x.part],
        4 * patch,
      );
    }
  }
  return { entries, weights };
}

/** Where the patches of each frame end, from 0 on: a patch sees those of its own frame. */
export function frameEnds(grids: readonly Grid[]): number[] {
  const ends = [0];
  for (const [frames, height, width] of grids) {
    for (let frame = 0; frame < frames; frame++) ends.push((ends.at(-1) as number) + height * width);
  }
  return ends;
}
