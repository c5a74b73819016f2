/** Rows picked by their index and their adjoint, rows added up by index; and one element picked of each last axis. */
import { bits, type DType, isFloat, scalarType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineOp } from "../op.ts";
import { scope } from "../scope.ts";
import { print, sameShape, type Shape, size } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { type Nested, tensor, zeros } from "./create.ts";
import { gather, links, putLast, scatter } from "./gather.wgsl.ts";

/** Indices on the device, i32 or u32, or on the host, where they are checked before any work. */
export type Indices = Tensor | Nested | Int32Array | Uint32Array;

/** The bits of the NaN that stands for an element that is not there. */
const NAN_BITS = 0x7fc00000;

const outsideOf = (dtype: DType): number => (isFloat(dtype) ? NAN_BITS : 0);

/**
 * Picks along one axis; off the tape.
 *
 * @param x        [outer, rows, width]
 * @param indices  [outer, count]
 * @returns        outer · count · width elements under `shape`
 */
function pick(
  x: Tensor,
  indices: Tensor,
  [outer, rows, width]: readonly [number, number, number],
  shape: Shape,
  outside = outsideOf(x.dtype),
): Tensor {
  const uniforms = { n: size(shape), rows, width, count: outer === 0 ? 0 : indices.size / outer, outside };
  const y = { shape, dtype: x.dtype };
  return gather({ x, indices }, { y }, uniforms, { knobs: { type: scalarType(x.dtype) } }).y;
}

/** Picks rows of x [rows, ...rest]; off the tape. */
function pickRows(x: Tensor, indices: Tensor, outside?: number): Tensor {
  const [rows, ...rest] = x.shape as [number, ...number[]];
  return pick(x, indices, [1, rows, size(rest)], [...indices.shape, ...rest], outside);
}

/** Adds rows up; off the tape. */
function addRows(rows: number, indices: Tensor, source: Tensor): Tensor {
  const { device } = source;
  const rest = source.shape.slice(indices.rank);
  const positions = indices.size;
  const dtype = bits(source.dtype) === 16 ? "f32" : source.dtype;
  const y = zeros(device, [rows, ...rest], dtype);
  const follows = zeros(device, [positions], "u32");
  const { next } = links({ indices, follows }, { next: follows }, { n: positions });
  const uniforms = { n: source.size, positions, rows, width: size(rest) };
  scatter({ source, indices, next, follows, y }, {}, uniforms, { knobs: { type: scalarType(dtype) } });
  return cast(y, source.dtype);
}

const gatherRowsOp = defineOp<[x: Tensor, indices: Tensor]>({
  name: "gatherRows",
  forward: ([x, indices]) => pickRows(x, indices),
  saves: { inputs: [false, true], output: false },
  vjp: ([x, indices], _, __, dy) => [addRows(x.shape[0] as number, indices, dy), null],
});

/**
 * Rows of a table: `y[i, …] = x[indices[i], …]`, as an embedding. Its gradient is {@link scatterAddRows}.
 *
 * @param x        [N, ...rest]; 16-bit tables are read as they are stored
 * @param indices  of any shape; on the device an index outside 0 … N − 1 gives NaN (in integers 0), and no gradient flows
 * @returns        [...indices.shape, ...rest], in the dtype of x
 * @throws {ShapeError} when x is a scalar, the indices are no integers, or one on the host is outside 0 … N − 1
 */
export function gatherRows(x: Tensor, indices: Indices): Tensor {
  const [rows] = x.shape;
  if (rows === undefined) throw new ShapeError("gatherRows: x is a scalar and has no rows");
  const what = `x ${print(x.shape)} has ${rows} rows`;
  return scope(() => gatherRowsOp(x, onDevice(indices, x.device, rows, "gatherRows", what), undefined));
}

const scatterAddRowsOp = defineOp<[indices: Tensor, source: Tensor], number>({
  name: "scatterAddRows",
  forward: ([indices, source], rows) => addRows(rows, indices, source),
  saves: { inputs: [true, false], output: false },
  vjp: ([indices], _, __, dy) => [null, pickRows(dy, indices, 0)],
});

/**
 * Rows added up by index: zeros, plus `source[i, …]` in row `indices[i]`. Rows of one index are added in their order, in
 * f32 for floats, so the bits are the same every time. Its gradient is {@link gatherRows}.
 *
 * It compares the indices pairwise, which takes long for more than some 10⁵ of them.
 *
 * @param rows     how many rows the result has
 * @param indices  of any shape; on the device an index outside 0 … rows − 1 is skipped
 * @param source   [...indices.shape, ...rest]; bools are counted in i32
 * @returns        [rows, ...rest], in the dtype of source
 * @throws {ShapeError} when the shape of source does not begin with that of the indices, `rows` is no length, the indices
 *   are no integers, or one on the host is outside 0 … rows − 1
 */
export function scatterAddRows(rows: number, indices: Indices, source: Tensor): Tensor {
  if (!Number.isSafeInteger(rows) || rows < 0) throw new ShapeError(`scatterAddRows: ${rows} is no number of rows`);
  return scope(() => {
    const own = onDevice(indices, source.device, rows, "scatterAddRows", `the result has ${rows} rows`);
    if (!sameShape(own.shape, source.shape.slice(0, own.rank))) {
      throw new ShapeError(
        `scatterAddRows: the source ${print(source.shape)} does not begin with the indices ${print(own.shape)}`,
      );
    }
    return scatterAddRowsOp(own, source.dtype === "bool" ? cast(source, "i32") : source, rows);
  });
}

const gatherLastOp = defineOp<[x: Tensor, indices: Tensor]>({
  name: "gatherLast",
  forward: ([x, indices]) => pick(x, indices, [indices.size, x.shape.at(-1) as number, 1], indices.shape),
  saves: { inputs: [false, true], output: false },
  vjp([x, indices], _, __, dy) {
    const dx = zeros(dy.device, x.shape, bits(dy.dtype) === 16 ? "f32" : dy.dtype);
    putLast({ source: dy, indices, y: dx }, {}, { n: dy.size, width: x.shape.at(-1) as number });
    return [cast(dx, dy.dtype), null];
  },
});

/**
 * One element of each row of the last axis: `y[…] = x[…, indices[…]]`, as the score of a label.
 *
 * @param x        [..., V]
 * @param indices  [...]; on the device an index outside 0 … V − 1 gives NaN (in integers 0), and no gradient flows
 * @returns        [...], in the dtype of x
 * @throws {ShapeError} when the shape of the indices is not that of x without its last axis, they are no integers, or one
 *   on the host is outside 0 … V − 1
 */
export function gatherLast(x: Tensor, indices: Indices): Tensor {
  const width = x.shape.at(-1);
  if (width === undefined) throw new ShapeError("gatherLast: x is a scalar and has no last axis");
  return scope(() => {
    const own = onDevice(indices, x.device, width, "gatherLast", `the last axis of x ${print(x.shape)} is ${width}`);
    if (!sameShape(own.shape, x.shape.slice(0, -1))) {
      throw new ShapeError(
        `gatherLast: the indices are ${print(own.shape)}, x ${print(x.shape)} without its last axis is not`,
      );
    }
    return gatherLastOp(x, own, undefined);
  });
}

/**
 * Indices as an i32 or u32 tensor.
 *
 * @param what  what the message says of `rows`
 */
function onDevice(indices: Indices, device: Device, rows: number, who: string, what: string): Tensor {
  if (indices instanceof Tensor) {
    if (indices.dtype === "i32" || indices.dtype === "u32") return indices;
    throw new ShapeError(`${who}: indices ${print(indices.shape)} are ${indices.dtype}, not i32 or u32`);
  }
  for (const index of ArrayBuffer.isView(indices) ? indices : leaves(indices)) {
    if (typeof index === "boolean" || !Number.isInteger(index) || index < 0 || index >= rows) {
      throw new ShapeError(`${who}: ${index} is no index: ${what}`);
    }
  }
  return tensor(device, indices, { dtype: indices instanceof Uint32Array ? "u32" : "i32" });
}

function* leaves(nested: Nested): Generator<number | boolean> {
  if (typeof nested === "number" || typeof nested === "boolean") yield nested;
  else for (const item of nested) yield* leaves(item);
}
