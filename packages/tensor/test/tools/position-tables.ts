/** The tables of position that the golden cases need, from their attributes, on the host in double precision. */
import type { Numbers } from "./golden-ops.ts";

const float = Math.fround;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** cos and sin of the same angles. */
export interface Rotation {
  readonly cos: Numbers;
  readonly sin: Numbers;
}

/** 1 / θ^(2i/dim) for i below dim/2, each step rounded to f32 as transformers has it. */
export const inverseFrequencies = (dim: number, theta: number): number[] =>
  range(dim / 2).map((i) => float(1 / float(theta ** float((2 * i) / dim))));

/** cos and sin of rows of angles, each row twice over: [..., K/2] angles give [..., K]. */
function rotation(lead: readonly number[], rows: readonly (readonly number[])[]): Rotation {
  const shape = [...lead, 2 * (rows[0]?.length ?? 0)];
  const table = (f: (angle: number) => number): Numbers => ({
    shape,
    values: rows.flatMap((row) => [...row, ...row].map(f)),
  });
  return { cos: table(Math.cos), sin: table(Math.sin) };
}

/** Text: [L, K], position times frequency. */
export const textRotation = (positions: readonly number[], frequencies: readonly number[]): Rotation =>
  rotation(
    [positions.length],
    positions.map((p) => frequencies.map((f) => p * f)),
  );

/**
 * Text with pictures: lane j takes the position of the axis that the letter `lanes[j]` names.
 *
 * @param ids  [3, B, L]: time, height, width
 * @returns    [B, L, K]
 */
export function multimodalRotation(ids: Numbers, lanes: string, frequencies: readonly number[]): Rotation {
  const [, batch, length] = ids.shape as [number, number, number];
  const tokens = batch * length;
  const axes = lanes.split("").map((letter) => "THW".indexOf(letter));
  if (axes.length !== frequencies.length || axes.includes(-1)) throw new Error(`lane_axis is ${lanes}`);
  const position = (axis: number, token: number): number => ids.values[axis * tokens + token] as number;
  const rows = range(tokens).map((token) => frequencies.map((f, lane) => position(axes[lane] as number, token) * f));
  return rotation([batch, length], rows);
}

/**
 * Patches: the frequencies times the row, then times the column.
 *
 * @param ids          [P, 2]: row, column
 * @param frequencies  K/4 of them
 * @returns            [P, K]
 */
export function patchRotation(ids: Numbers, frequencies: readonly number[]): Rotation {
  const [patches] = ids.shape as [number, number];
  const rows = range(patches).map((patch) =>
    [0, 1].flatMap((axis) => frequencies.map((f) => (ids.values[2 * patch + axis] as number) * f)),
  );
  return rotation([patches], rows);
}

/** The four cells of a square table around each patch, and their weights: [P, 4] each. */
export interface Taps {
  readonly indices: Numbers;
  readonly weights: Numbers;
}

/**
 * Bilinear interpolation of a `side` × `side` table onto grids of patches, corners on corners. Patches come in blocks of
 * `merge` × `merge`. Coordinates are rounded to f32, as the reference makes them.
 *
 * @param grids  [N, 3]: frames, rows, columns
 */
export function interpolationTaps(grids: Numbers, side: number, merge: number): Taps {
  const indices: number[] = [];
  const weights: number[] = [];
  for (const n of range(grids.shape[0] as number)) {
    const [frames, height, width] = grids.values.slice(3 * n, 3 * n + 3) as [number, number, number];
    const [rows, columns] = [along(height, side), along(width, side)];
    for (const patch of range(frames * height * width)) {
      const [row, column] = place(patch % (height * width), width, merge);
      for (const [r, wr] of rows[row] as Line) {
        for (const [c, wc] of columns[column] as Line) {
          indices.push(r * side + c);
          weights.push(wr * wc);
        }
      }
    }
  }
  const shape = [indices.length / 4, 4];
  return { indices: { shape, values: indices }, weights: { shape, values: weights } };
}

/** Two neighbours along one axis and their weights. */
type Line = readonly (readonly [index: number, weight: number])[];

/** `count` points from 0 to side − 1, evenly spaced as `torch.linspace` has it, between their neighbours. */
function along(count: number, side: number): Line[] {
  const step = count > 1 ? float((side - 1) / (count - 1)) : 0;
  return range(count).map((i) => {
    const at = i < count / 2 ? float(step * i) : float(side - 1 - float(step * (count - 1 - i)));
    const low = Math.floor(at);
    const share = at - low;
    return [
      [low, 1 - share],
      [Math.min(low + 1, side - 1), share],
    ];
  });
}

/** Row and column of the patch that comes at `index` when blocks come one after the other. */
function place(index: number, width: number, merge: number): [number, number] {
  const block = Math.floor(index / merge ** 2);
  const inner = index % merge ** 2;
  const across = width / merge;
  return [Math.floor(block / across) * merge + Math.floor(inner / merge), (block % across) * merge + (inner % merge)];
}
