/** Running sums along one axis. Long lines go chunk by chunk: sums of chunks, running sums of those, then each chunk. */
import { bits, scalarType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type Op } from "../op.ts";
import { axisOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { chunksOf, lanesOf, lineGroups, lineLanes, type Lines, linesAlong, openLine } from "./lines.wgsl.ts";
import { reduceChunks, summable } from "./reduction.ts";

/**
 * A line of [outer, chunks, inner] adds up one chunk. Each lane takes a run of neighbours, and begins with the sum of the
 * runs and the chunks (`offsets`, running sums themselves) before it; before means after when the order is reversed.
 */
const scan = defineKernel({
  name: "cumsum",
  inputs: ["x", "offsets"],
  outputs: ["y"],
  uniforms: { width: "u32", inner: "u32", chunks: "u32", step: "u32", lines: "u32" },
  knobs: { type: ["f32", "i32", "u32"], reverse: [false, true], lanes: lineLanes },
  source: (bindings, { type, reverse, lanes }) => wgsl`
    ${bindings}
    var<workgroup> runs: array<${type}, 64>;
    ${openLine(lanes, "u.lines")}
      let chunk = line / u.inner % u.chunks;
      let base = line / u.inner / u.chunks * u.width * u.inner + line % u.inner;
      let first = min(chunk * u.step, u.width);
      let last = min(first + u.step, u.width);
      let run = (u.step + ${lanes - 1}u) / ${lanes}u;
      let begin = min(own * run, last - first);
      let end = min(begin + run, last - first);
    #if ${reverse}
      let origin = base + (last - 1u) * u.inner;
      let stride = 0u - u.inner;
      let before = line + u.inner;
      let follows = chunk + 1u < u.chunks;
    #else
      let origin = base + first * u.inner;
      let stride = u.inner;
      let before = line - u.inner;
      let follows = chunk > 0u;
    #endif
      var total = ${type}(0);
    #if ${lanes > 1}
      for (var k = begin; k < end; k++) { total += load_x(origin + k * stride); }
      runs[lane] = total;
      workgroupBarrier();
      if (own == 0u) {
        var sum = ${type}(0);
        for (var k = lane; k < lane + ${lanes}u; k++) {
          let next = sum + runs[k];
          runs[k] = sum;
          sum = next;
        }
      }
      workgroupBarrier();
      total = runs[lane];
    #endif
      if (follows) { total = load_offsets(before) + total; }
      if (!live) { return; }
      for (var k = begin; k < end; k++) {
        let i = origin + k * stride;
        total += load_x(i);
        store_y(i, total);
      }
    }`,
  grid: ({ lines }, { lanes }) => lineGroups(lines, lanes),
});

function run(x: Tensor, { outer, width, inner }: Lines, reverse: boolean): Tensor {
  const chunks = chunksOf({ outer, width, inner });
  const wide = bits(x.dtype) === 16 ? "f32" : x.dtype;
  let offsets = x;
  if (chunks > 1) {
    const sums = reduceChunks(x, { outer, width, inner }, chunks, "sum", wide);
    offsets = run(sums, { outer, width: chunks, inner }, reverse);
    sums.dispose();
  }
  const lines = outer * chunks * inner;
  const step = Math.ceil(width / chunks);
  const knobs = { type: scalarType(x.dtype), reverse, lanes: lanesOf(step, inner, lines) };
  const { y } = scan({ x, offsets }, { y: x }, { width, inner, chunks, step, lines }, { knobs });
  if (offsets !== x) offsets.dispose();
  return y;
}

interface Params {
  readonly axis: number;
  readonly reverse: boolean;
}

const op: Op<[x: Tensor], Params> = defineOp<[x: Tensor], Params>({
  name: "cumsum",
  forward: ([x], { axis, reverse }) => run(x, linesAlong(x.shape, axis), reverse),
  saves: { inputs: [false], output: false },
  vjp: (_, { axis, reverse }, __, dy) => [op(dy, { axis, reverse: !reverse })],
});

/**
 * The cumulative sum along an axis: y₀ = x₀, yₖ = yₖ₋₁ + xₖ. Floats are added in f32; bools are counted in i32.
 *
 * The order of the additions depends on the shape alone, so the same input gives the same bits.
 *
 * @returns the shape of `x`
 * @throws {ShapeError} when there is no such axis
 */
export const cumsum = (x: Tensor, axis: number): Tensor =>
  op(cast(x, summable(x.dtype)), { axis: axisOf(axis, x.rank, "cumsum"), reverse: false });
