/** The kernels of every reduction, over [outer, width, inner]. Long widths go in two rounds, always in the same order. */
import { bits, type DType, scalarType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import {
  chunksOf,
  foldLine,
  lanesOf,
  type Lines,
  lineFold,
  lineGroups,
  lineLanes,
  openLine,
  wideLanesOf,
} from "./lines.wgsl.ts";
import { isNanHelper } from "./special.wgsl.ts";

export type Reduction = "sum" | "max" | "min";

/** What sums of a dtype are in: bools are counted in i32, as PyTorch counts them in an integer. */
export const summable = (dtype: DType): DType => (dtype === "bool" ? "i32" : dtype);

/** NaN wins over every number, as in PyTorch. */
function combine(kind: Reduction, type: "f32" | "i32" | "u32"): string {
  if (kind === "sum") return "return a + b;";
  return `return ${type === "f32" ? `select(${kind}(a, b), a + b, is_nan(a) || is_nan(b))` : `${kind}(a, b)`};`;
}

/** A line of the output [outer, chunks, inner] reduces the indices from c · step up to the next chunk or the end. */
const reduceLines = defineKernel({
  name: "reduce",
  inputs: ["x"],
  outputs: ["y"],
  uniforms: { width: "u32", inner: "u32", chunks: "u32", step: "u32", outputs: "u32" },
  knobs: { kind: ["sum", "max", "min"], type: ["f32", "i32", "u32"], wide: [false, true], lanes: lineLanes },
  forms: ({ wide }) => (wide ? { x: "vec4" } : {}),
  source: (bindings, { kind, type, wide, lanes }) => wgsl`
    ${bindings}
    ${isNanHelper}
    ${lineFold(lanes, "values", type, combine(kind, type))}
    fn load(i: u32) -> ${type} {
    #if ${wide}
      let x = load_x(i);
      return combine_values(combine_values(x.x, x.y), combine_values(x.z, x.w));
    #else
      return load_x(i);
    #endif
    }
    ${openLine(lanes, "u.outputs")}
      let chunk = line / u.inner;
      let base = chunk / u.chunks * u.width * u.inner + line % u.inner;
      let first = min(chunk % u.chunks * u.step, u.width);
      let end = min(first + u.step, u.width);
    #if ${kind === "sum"}
      var total = ${type}(0);
    #else
      // An element may count twice, and so a lane needs no least value, which f32 cannot spell.
      var total = load(base + min(first + own, u.width - 1u) * u.inner);
    #endif
      for (var k = first + own; k < end; k += ${lanes}u) { total = combine_values(total, load(base + k * u.inner)); }
      ${foldLine(lanes, "values", "total")}
      if (live && own == 0u) { store_y(line, total); }
    }`,
  grid: ({ outputs }, { lanes }) => lineGroups(outputs, lanes),
});

/**
 * Reduces some axes; no tape. Floats are added in f32, and rounded once at the end.
 *
 * @param axes   distinct, counted from the front
 * @param dtype  of the result: that of `x`, or f32 to keep what a 16-bit float would lose
 * @returns      the shape without those axes
 */
export function reduceAxes(x: Tensor, axes: readonly number[], kind: Reduction, dtype: DType = x.dtype): Tensor {
  if (axes.length === 0) return cast(x, dtype).alias();
  const reduced = new Set(axes);
  const shape = x.shape.filter((_, i) => !reduced.has(i));
  const between = bits(x.dtype) === 16 ? "f32" : x.dtype;
  let left = reduced.size;
  let current = x.alias();
  let lengths: Shape = x.shape;
  // Each run of neighbouring axes in turn, the innermost first: what is left shrinks fastest.
  for (let end = x.rank; left > 0;) {
    if (!reduced.has(end - 1)) {
      end--;
      continue;
    }
    let begin = end - 1;
    while (begin > 0 && reduced.has(begin - 1)) begin--;
    left -= end - begin;
    const outer = size(lengths.slice(0, begin));
    const width = size(lengths.slice(begin, end));
    const inner = size(lengths.slice(end));
    const next = reduceMiddle(current, { outer, width, inner }, kind, left > 0 ? between : dtype);
    current.dispose();
    current = next;
    lengths = lengths.toSpliced(begin, end - begin);
    end = begin;
  }
  const y = current.alias(shape);
  current.dispose();
  return y;
}

/** Vectors that one lane of a CPU adapter should at least go over before a second round pays, and lanes that keep it busy. */
const LEAST_VECTORS = 1024;
const MOST_LANES = 1024;

function reduceMiddle(x: Tensor, lines: Lines, kind: Reduction, dtype: DType): Tensor {
  const { outer, width, inner } = lines;
  const walks = x.device.kind !== "hardware" && inner === 1 && width % 4 === 0;
  const most = Math.max(1, Math.min(Math.floor(width / 4 / LEAST_VECTORS), Math.ceil(MOST_LANES / outer)));
  const chunks = walks ? most : chunksOf(lines);
  if (chunks === 1) return reduceChunks(x, lines, 1, kind, dtype);
  const step = walks ? Math.ceil(width / 4 / chunks) * 4 : Math.ceil(width / chunks);
  const first = reduceChunks(x, lines, chunks, kind, bits(dtype) === 16 ? "f32" : dtype, step);
  const second = reduceChunks(first, { outer, width: chunks, inner }, 1, kind, dtype);
  first.dispose();
  return second;
}

/**
 * Each chunk of each line reduced: chunk c covers `step` elements from the c-th multiple of that.
 *
 * @returns  [outer · chunks · inner]
 */
export function reduceChunks(
  x: Tensor,
  lines: Lines,
  chunks: number,
  kind: Reduction,
  dtype: DType,
  step: number = Math.ceil(lines.width / chunks),
): Tensor {
  const { outer, width, inner } = lines;
  const outputs = outer * chunks * inner;
  const type = scalarType(x.dtype);
  // Four at a time where every chunk is whole vectors.
  const wide = inner === 1 && width > 0 && width % 4 === 0 && step % 4 === 0;
  const each = wide ? 4 : 1;
  const lanes = inner > 1 ? 1 : wide ? wideLanesOf(x.device, step / 4, outputs) : lanesOf(step, inner, outputs);
  const uniforms = { width: width / each, inner, chunks, step: step / each, outputs };
  return reduceLines({ x }, { y: { shape: [outputs], dtype } }, uniforms, { knobs: { kind, type, wide, lanes } }).y;
}
