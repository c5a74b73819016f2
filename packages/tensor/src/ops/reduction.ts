/** The kernels of every reduction, over [outer, width, inner]. Long widths go in two rounds, always in the same order. */
import { scalarType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { isNanHelper } from "./special.wgsl.ts";

export type Reduction = "sum" | "max" | "min";

/** Where a lane begins: max and min may count an element twice, and so need no least value, which f32 cannot spell. */
const begin = (kind: Reduction, type: string, element: string): string =>
  kind === "sum" ? `${type}(0)` : `load_x(${element})`;

/** NaN wins over every number, as in PyTorch. */
function combine(kind: Reduction, type: "f32" | "i32" | "u32"): string {
  if (kind === "sum") return "a + b";
  return type === "f32" ? `select(${kind}(a, b), a + b, is_nan(a) || is_nan(b))` : `${kind}(a, b)`;
}

const spec = {
  inputs: ["x"],
  outputs: ["y"],
  // Output [outer, chunks, inner]; chunk c covers the indices from c · step up to the next one or the end.
  uniforms: { width: "u32", inner: "u32", chunks: "u32", step: "u32", outputs: "u32" },
} as const;

const kinds = {
  kind: ["sum", "max", "min"],
  type: ["f32", "i32", "u32"],
} as const;

const common = (bindings: string, kind: Reduction, type: "f32" | "i32" | "u32"): string => wgsl`
  ${bindings}
  ${isNanHelper}
  fn combine(a: ${type}, b: ${type}) -> ${type} { return ${combine(kind, type)}; }`;

/** inner is 1: one workgroup for each output, its lanes side by side along the row. */
const rows = defineKernel({
  ...spec,
  name: "reduce.rows",
  knobs: kinds,
  source: (bindings, { kind, type }) => wgsl`
    ${common(bindings, kind, type)}
    var<workgroup> partial: array<${type}, 64>;
    ${main(64)}
      let output = group;
      if (output >= u.outputs) { return; }
      let row = output / u.chunks * u.width;
      let first = output % u.chunks * u.step;
      let end = min(first + u.step, u.width);
      var total = ${begin(kind, type, "row + min(first + lane, u.width - 1u)")};
      for (var k = first + lane; k < end; k += 64u) { total = combine(total, load_x(row + k)); }
      partial[lane] = total;
      for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] = combine(partial[lane], partial[lane + half]); }
      }
      if (lane == 0u) { store_y(output, partial[0]); }
    }`,
  grid: ({ outputs }) => outputs,
});

/** inner is more: one invocation for each output, neighbours along the inner axis. */
const columns = defineKernel({
  ...spec,
  name: "reduce.columns",
  knobs: kinds,
  source: (bindings, { kind, type }) => wgsl`
    ${common(bindings, kind, type)}
    ${main(64)}
      let output = group * 64u + lane;
      if (output >= u.outputs) { return; }
      let column = output % u.inner;
      let chunk = output / u.inner;
      let first = chunk % u.chunks * u.step;
      let end = min(first + u.step, u.width);
      let base = chunk / u.chunks * u.width * u.inner + column;
      var total = ${begin(kind, type, "base + min(first, u.width - 1u) * u.inner")};
      for (var k = first; k < end; k++) { total = combine(total, load_x(base + k * u.inner)); }
      store_y(output, total);
    }`,
  grid: ({ outputs }) => Math.ceil(outputs / 64),
});

/** Invocations that keep a large device busy; a wide reduction to fewer outputs is split into chunks. */
const BUSY = 4096;
/** Elements that one lane should at least add up before a second round pays. */
const LEAST_STEP = 64;

/**
 * Reduces some axes; no tape.
 *
 * @param axes  distinct, counted from the front
 * @returns     the shape without those axes
 */
export function reduceAxes(x: Tensor, axes: readonly number[], kind: Reduction): Tensor {
  const reduced = new Set(axes);
  const shape = x.shape.filter((_, i) => !reduced.has(i));
  let current = x.alias();
  let lengths: Shape = x.shape;
  // Each run of neighbouring axes in turn, the innermost first: what is left shrinks fastest.
  for (let end = x.rank; end > 0;) {
    if (!reduced.has(end - 1)) {
      end--;
      continue;
    }
    let begin = end - 1;
    while (begin > 0 && reduced.has(begin - 1)) begin--;
    const outer = size(lengths.slice(0, begin));
    const width = size(lengths.slice(begin, end));
    const inner = size(lengths.slice(end));
    const next = reduceMiddle(current, outer, width, inner, kind);
    current.dispose();
    current = next;
    lengths = lengths.toSpliced(begin, end - begin);
    end = begin;
  }
  const y = current.alias(shape);
  current.dispose();
  return y;
}

function reduceMiddle(x: Tensor, outer: number, width: number, inner: number, kind: Reduction): Tensor {
  const outputs = outer * inner;
  const lanes = inner === 1 ? 64 : 1;
  const most = Math.ceil(width / (LEAST_STEP * lanes));
  const chunks = outputs === 0 ? 1 : Math.max(1, Math.min(most, Math.ceil(BUSY / (outputs * lanes))));
  const first = round(x, outer, width, inner, chunks, kind);
  if (chunks === 1) return first;
  const second = round(first, outer, chunks, inner, 1, kind);
  first.dispose();
  return second;
}

function round(x: Tensor, outer: number, width: number, inner: number, chunks: number, kind: Reduction): Tensor {
  const kernel = inner === 1 ? rows : columns;
  const shape = [outer * chunks * inner];
  const type = scalarType(x.dtype);
  const uniforms = { width, inner, chunks, step: Math.ceil(width / chunks), outputs: shape[0] as number };
  return kernel({ x }, { y: { shape, dtype: x.dtype } }, uniforms, { knobs: { kind, type } }).y;
}
