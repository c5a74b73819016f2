/** Where the largest and the smallest elements are. */
import { scalarType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { axisOf, print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import {
  chunksOf,
  foldLine,
  lanesOf,
  lineFold,
  lineGroups,
  lineLanes,
  type Lines,
  linesAlong,
  openLine,
} from "./lines.wgsl.ts";
import type { ReduceOptions } from "./reduce.ts";
import { orderHelper } from "./special.wgsl.ts";

/**
 * A line of [outer, chunks, inner] finds the best element of a chunk. In the second round `x` is seen through the winners
 * of the first, `count` to each of its lines.
 */
const search = defineKernel({
  name: "argmax",
  inputs: ["x", "winners"],
  outputs: ["y"],
  uniforms: { width: "u32", inner: "u32", count: "u32", chunks: "u32", step: "u32", lines: "u32" },
  knobs: { type: ["f32", "i32", "u32"], least: [false, true], second: [false, true], lanes: lineLanes },
  source: (bindings, { type, least, second, lanes }) => wgsl`
    ${bindings}
    ${orderHelper(type, least ? -1 : 1)}
    ${lineFold(lanes, "best", "vec2u", "return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));")}
    fn candidate(outer: u32, column: u32, k: u32) -> vec2u {
    #if ${second}
      let index = u32(load_winners((outer * u.count + k) * u.inner + column));
    #else
      let index = k;
    #endif
      return vec2u(order(load_x((outer * u.width + index) * u.inner + column)), index);
    }
    ${openLine(lanes, "u.lines")}
      let column = line % u.inner;
      let outer = line / u.inner / u.chunks;
      let first = line / u.inner % u.chunks * u.step;
      let end = min(first + u.step, u.count);
      // An element may be met twice, and so a lane without elements of its own needs no least value.
      var best = candidate(outer, column, min(first + own, u.count - 1u));
      for (var k = first + own; k < end; k += ${lanes}u) { best = combine_best(best, candidate(outer, column, k)); }
      ${foldLine(lanes, "best", "best")}
      if (live && own == 0u) { store_y(line, i32(best.y)); }
    }`,
  grid: ({ lines }, { lanes }) => lineGroups(lines, lanes),
});

function round(x: Tensor, winners: Tensor, lines: Lines & { count: number }, chunks: number, least: boolean): Tensor {
  const { outer, width, inner, count } = lines;
  const shape = [outer * chunks * inner];
  const step = Math.ceil(count / chunks);
  const uniforms = { width, inner, count, chunks, step, lines: shape[0] as number };
  const lanes = lanesOf(step, inner, uniforms.lines);
  const knobs = { type: scalarType(x.dtype), least, second: winners !== x, lanes };
  return search({ x, winners }, { y: { shape, dtype: "i32" } }, uniforms, { knobs }).y;
}

function find(name: "argmax" | "argmin", x: Tensor, axis: number | undefined, { keepDim = false }: ReduceOptions) {
  const at = axis === undefined ? undefined : axisOf(axis, x.rank, name);
  const lines = at === undefined ? { outer: 1, width: x.size, inner: 1 } : linesAlong(x.shape, at);
  const shape: Shape = x.shape.flatMap((n, i) => (at !== undefined && i !== at ? [n] : keepDim ? [1] : []));
  if (lines.width === 0 && size(shape) > 0) throw new ShapeError(`${name}: ${print(x.shape)} has no element to choose`);
  const least = name === "argmin";
  const chunks = chunksOf(lines);
  const first = round(x, x, { ...lines, count: lines.width }, chunks, least);
  const y = chunks === 1 ? first : round(x, first, { ...lines, count: chunks }, 1, least);
  const result = y.alias(shape) as Tensor<"i32">;
  first.dispose();
  if (y !== first) y.dispose();
  return result;
}

/**
 * The index of the largest element along an axis, or in the whole tensor in row-major order; of equals the first. NaN
 * counts as the largest, as in PyTorch. No gradient flows through it.
 *
 * @returns i32, without the axis, or with length 1 there with `keepDim`
 * @throws {ShapeError} when there is no such axis, or nothing to choose from
 */
export const argmax = (x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor<"i32"> =>
  find("argmax", x, axis, options);

/** The index of the smallest element; here NaN counts as the smallest. See {@link argmax}. */
export const argmin = (x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor<"i32"> =>
  find("argmin", x, axis, options);
