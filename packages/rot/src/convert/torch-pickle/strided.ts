/** The elements of a view in row-major order, streamed from a storage that is never held whole. */
import { fileDTypeBits } from "@rot/tensor/safetensors";
import type { TorchTensor } from "./values.ts";

/** Bytes handed out at once, and bytes of the storage held at once. */
export const CHUNK_BYTES = 8 * 2 ** 20;
const WINDOW_BYTES = 64 * 2 ** 20;

/** Reads bytes `begin` to `end` of a storage. */
export type ReadStorage = (begin: number, end: number) => Promise<Uint8Array>;

/** Elements of a shape. */
export const countOf = (shape: readonly number[]): number => shape.reduce((product, length) => product * length, 1);

/** Bytes of a tensor, once it is contiguous. */
export const bytesOf = ({ shape, dtype }: Pick<TorchTensor, "shape" | "dtype">): number =>
  (countOf(shape) * fileDTypeBits[dtype]) / 8;

/** Whether the elements lie one after the other. Strides of axes of length 1 mean nothing. */
export const isContiguous = ({ shape, stride }: Pick<TorchTensor, "shape" | "stride">): boolean =>
  shape.includes(0) || runLength({ shape, stride }) === countOf(shape);

/** How many of the last elements in row-major order lie one after the other. */
function runLength({ shape, stride }: Pick<TorchTensor, "shape" | "stride">): number {
  let run = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const length = shape[axis] as number;
    if (length !== 1 && stride[axis] !== run) break;
    run *= length;
  }
  return run;
}

/** Where each run of a view begins, counted in elements of the storage, in row-major order. */
function* runs({ shape, stride, offset }: TorchTensor, run: number): Generator<number> {
  let outer = shape.length;
  for (let inner = 1; inner < run;) inner *= shape[--outer] as number;
  const index = Array.from({ length: outer }, () => 0);
  let at = offset;
  for (;;) {
    yield at;
    let axis = outer - 1;
    for (; axis >= 0; axis--) {
      const length = shape[axis] as number;
      const step = stride[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      at += step;
      if ((index[axis] as number) < length) break;
      index[axis] = 0;
      at -= length * step;
    }
    if (axis < 0) return;
  }
}

/** Streams the bytes of `tensor`, contiguous and in row-major order. */
export async function* streamStrided(tensor: TorchTensor, read: ReadStorage): AsyncGenerator<Uint8Array> {
  if (tensor.shape.includes(0)) return;
  const width = fileDTypeBits[tensor.dtype] / 8;
  const run = runLength(tensor);
  if (run * width >= CHUNK_BYTES) {
    for (const start of runs(tensor, run)) {
      const end = (start + run) * width;
      for (let at = start * width; at < end; at += CHUNK_BYTES) yield await read(at, Math.min(at + CHUNK_BYTES, end));
    }
    return;
  }

  const starts = new Float64Array(Math.min(countOf(tensor.shape) / run, Math.floor(CHUNK_BYTES / (run * width))));
  let filled = 0;
  const gathered = (): Promise<Uint8Array> => gather(starts.subarray(0, filled), run * width, width, read);
  for (const start of runs(tensor, run)) {
    starts[filled++] = start;
    if (filled < starts.length) continue;
    yield await gathered();
    filled = 0;
  }
  if (filled > 0) yield await gathered();
}

/**
 * Runs of `length` bytes, one after the other. What they span is read window by window, so a transposed matrix of any
 * size needs no more memory than a small one.
 */
async function gather(starts: Float64Array, length: number, width: number, read: ReadStorage): Promise<Uint8Array> {
  let low = Infinity;
  let high = 0;
  for (const start of starts) {
    low = Math.min(low, start * width);
    high = Math.max(high, start * width + length);
  }
  if (high - low === starts.length * length && ascending(starts)) return read(low, high);
  const bytes = new Uint8Array(starts.length * length);
  for (let windowAt = low; windowAt < high; windowAt += WINDOW_BYTES) {
    const windowEnd = Math.min(windowAt + WINDOW_BYTES, high);
    const window = await read(windowAt, windowEnd);
    for (let i = 0; i < starts.length; i++) {
      const from = (starts[i] as number) * width;
      if (from >= windowEnd || from + length <= windowAt) continue;
      const begin = Math.max(from, windowAt);
      const end = Math.min(from + length, windowEnd);
      const to = i * length + begin - from;
      for (let k = 0; k < end - begin; k++) bytes[to + k] = window[begin - windowAt + k] as number;
    }
  }
  return bytes;
}

function ascending(starts: Float64Array): boolean {
  for (let i = 1; i < starts.length; i++) if ((starts[i] as number) <= (starts[i - 1] as number)) return false;
  return true;
}
