/** What the models of this package are made of, besides the kernels. Builders take a weights view and give functions. */
import { layerNorm as normalise, linear as product, type LinearOptions } from "@rot/kernels";
import {
  concat,
  gatherRows,
  isTaping,
  print,
  reshape,
  scatterAddRows,
  scope,
  ShapeError,
  type Tensor,
} from "@rot/tensor";
import type { Weights } from "./weights/weights.ts";

/** A linear of a model; what it may end with is in {@link LinearOptions}. */
export type Linear = (x: Tensor, ending?: LinearOptions) => Tensor;

/**
 * x · weightᵀ, plus the bias, plus the adapter if the view carries one.
 *
 * @param bias  whether the architecture has one here
 * @returns     [..., inputs] → [..., outputs]
 */
export function linear(w: Weights, outputs: number, inputs: number, { bias = false } = {}): Linear {
  const weight = w.get("weight", [outputs, inputs]);
  const offset = bias ? w.get("bias", [outputs]) : null;
  const { adapter } = w;
  if (!adapter) return (x, ending) => product(x, weight, offset, ending);
  return (x, { activation = null, residual = null } = {}) => {
    const y = product(x, weight, offset, { residual: adapter(x) });
    const z = activation ? y[activation]() : y;
    return residual ? z.add(residual) : z;
  };
}

/** Layer normalisation with the weight and the bias at this place. */
export function layerNorm(w: Weights, width: number, eps: number): (x: Tensor) => Tensor {
  const weight = w.get("weight", [width]);
  const bias = w.get("bias", [width]);
  return (x) => normalise(x, weight, bias, { eps });
}

/** A multiple of so many rows of a weight lies at a multiple of 256 bytes, where WebGPU lets a binding begin. */
const ROWS = 128;

/**
 * hidden · headᵀ, for a head of any size: one that is larger than the adapter's largest binding is taken in parts, unless
 * it wants a gradient itself.
 *
 * @param hidden  [..., D]
 * @param head    [V, D]
 * @param most    bytes of the head in one product; by default what a binding holds
 * @returns       [..., V]
 */
export function logitsOf(hidden: Tensor, head: Tensor, most = head.device.limits.maxStorageBufferBindingSize): Tensor {
  const { V } = head.dims("V _");
  if (head.bytes <= most || (isTaping() && head.requiresGrad)) return product(hidden, head);
  const step = Math.max(1, Math.floor((most / head.bytes) * (V / ROWS))) * ROWS;
  return scope(() => {
    const parts: Tensor[] = [];
    for (let begin = 0; begin < V; begin += step) {
      parts.push(product(hidden, head.rows(begin, Math.min(begin + step, V))));
    }
    return concat(parts, -1);
  });
}

/** @throws {ShapeError} unless there is a different row of x [N, D] for each of `values` [n, D] */
function checkRows(who: string, x: Tensor, rows: Int32Array, values: Tensor): void {
  const { N, D } = x.dims("N D");
  if (values.rank !== 2 || values.shape[0] !== rows.length || values.shape[1] !== D) {
    throw new ShapeError(`${who}: ${print(values.shape)} does not stand at ${rows.length} rows of ${print(x.shape)}`);
  }
  for (const row of rows) if (!(row >= 0 && row < N)) throw new ShapeError(`${who}: there is no row ${row} of ${N}`);
  if (new Set(rows).size !== rows.length) throw new ShapeError(`${who}: a row is named twice`);
}

/**
 * x [..., D] with other values at some of its rows, counted over all leading axes.
 *
 * @throws {ShapeError} when a row is named twice or not there, or the values do not fit
 */
export function replaceRows(x: Tensor, rows: Int32Array, values: Tensor): Tensor {
  return scope(() => {
    const flat = asRows(x);
    checkRows("replaceRows", flat, rows, values);
    const N = flat.shape[0] as number;
    const from = Int32Array.from({ length: N }, (_, row) => row);
    for (const [i, row] of rows.entries()) from[row] = N + i;
    return reshape(gatherRows(concat([flat, values]), from), x.shape);
  });
}

/**
 * x [..., D] with values added to some of its rows, counted over all leading axes.
 *
 * @throws {ShapeError} when a row is named twice or not there, or the values do not fit
 */
export function addToRows(x: Tensor, rows: Int32Array, values: Tensor): Tensor {
  return scope(() => {
    const flat = asRows(x);
    checkRows("addToRows", flat, rows, values);
    return reshape(flat.add(scatterAddRows(flat.shape[0] as number, rows, values)), x.shape);
  });
}

/** [..., D] as [N, D]. */
export const asRows = (x: Tensor): Tensor => x.flatten(0, -2);
