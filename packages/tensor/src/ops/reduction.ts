/** The kernels of every reduction, over [outer, width, inner]. Long widths go in two rounds, always in the same order. */
import { bits, type DType, scalarType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { chunksOf, foldLine, lanesOf, type Lines, lineFold, lineGroups, lineLanes, openLine } from "./lines.wgsl.ts";
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
  knobs: { kind: ["sum", "max", "min"], type: ["f32", "i32", "u32"], lanes: lineLanes },
  source: (bindings, { kind, type, lanes }) => wgsl`
    ${bindings}
    ${isNanHelper}
    ${lineFold(lanes, "values", type, combine(kind, type))}
    ${openLine(lanes, "u.outputs")}
      let chunk = line / u.inner;
      let base = chunk / u.chunks * u.width * u.inner + line % u.inner;
      let first = min(chunk % u.chunks * u.step, u.width);
      let end = min(first + u.step, u.width);
    #if ${kind === "sum"}
      var total = ${type}(0);
    #else
      // An element may count twice, and so a lane needs no least value, which f32 cannot spell.
      var total = load_x(base + min(first + own, u.width - 1u) * u.inner);
    #endif
      for (var k = first + own; k < end; k += ${lanes}u) { total = combine_values(total, load_x(base + k * u.inner)); }
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

function reduceMiddle(x: Tensor, lines: Lines, kind: Reduction, dtype: DType): Tensor {
  const { outer, inner } = lines;
  const chunks = chunksOf(lines);
  if (chunks === 1) return reduceChunks(x, lines, 1, kind, dtype);
  const first = reduceChunks(x, lines, chunks, kind, bits(dtype) === 16 ? "f32" : dtype);
  const second = reduceChunks(first, { outer, width: chunks, inner }, 1, kind, dtype);
  first.dispose();
  return second;
}

/**
 * Each chunk of each line reduced: chunk c covers ⌈width / chunks⌉ elements from the c-th multiple of that.
 *
 * @returns  [outer · chunks · inner]
 */
export function reduceChunks(x: Tensor, lines: Lines, chunks: number, kind: Reduction, dtype: DType): Tensor {
  const { outer, width, inner } = lines;
  const outputs = outer * chunks * inner;
  const step = Math.ceil(width / chunks);
  const lanes = inner === 1 ? lanesOf(step, inner, outputs) : 1;
  const type = scalarType(x.dtype);
  const uniforms = { width, inner, chunks, step, outputs };
  return reduceLines({ x }, { y: { shape: [outputs], dtype } }, uniforms, { knobs: { kind, type, lanes } }).y;
}
