/** How logits [N, V] are cut into blocks that fit the workspace and the adapter's largest binding. */
import { size, type Tensor } from "@rot/tensor";

/** Rows and columns of a block, but for the last one each way. */
export interface Blocks {
  readonly rows: number;
  readonly columns: number;
}

/** So many rows of f32, i32 and the like begin at a multiple of 256 bytes, where WebGPU lets a binding begin. */
const ROWS = 64;
/** So many rows of a weight begin there in any dtype and width. */
const COLUMNS = 128;

/** A multiple of `step`, at least one, unless so many are not there. */
const cut = (length: number, most: number, step: number): number =>
  length <= most ? Math.max(length, 1) : Math.max(step, Math.floor(most / step) * step);

/** Columns whose part of the weight, and of the logits of so many rows, each take one binding. */
function bindable(rows: number, weight: Tensor): number {
  const most = weight.device.limits.maxStorageBufferBindingSize;
  const width = size(weight.shape.slice(1));
  return most / Math.max(4 * rows, 4 * width);
}

/** Blocks that hold the whole vocabulary of some rows, in as many parts as bindings ask for. */
export function blocksOfRows(N: number, weight: Tensor, workspace: number): Blocks {
  const V = weight.shape[0] as number;
  const rows = cut(N, workspace / (4 * V), ROWS);
  return { rows, columns: cut(V, bindable(rows, weight), COLUMNS) };
}

/**
 * Blocks that hold all rows of some columns.
 *
 * @param extra  further bytes of workspace that a column takes
 */
export function blocksOfColumns(N: number, weight: Tensor, workspace: number, extra: number): Blocks {
  const V = weight.shape[0] as number;
  return { rows: N, columns: cut(V, Math.min(workspace / (4 * N + extra), bindable(N, weight)), COLUMNS) };
}

/** `[0, step], [step, 2 step], …` up to `length`. */
export function* spans(length: number, step: number): Generator<readonly [begin: number, end: number]> {
  for (let begin = 0; begin < length; begin += step) yield [begin, Math.min(begin + step, length)];
}
