/** Softmax and its logarithm along one axis: one reading of a line finds its greatest element and the sum, the next writes. */
import { isFloat } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp } from "../op.ts";
import { axisOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { foldLine, lanesOf, lineFold, lineGroups, lineLanes, linesAlong, openLine } from "./lines.wgsl.ts";
import { isNanHelper } from "./special.wgsl.ts";

const uniforms = { width: "u32", inner: "u32", lines: "u32" } as const;
const knobs = { log: [false, true], lanes: lineLanes } as const;

/**
 * Infinities meet here: the greatest element counts as e⁰ = 1 even where its difference to itself is NaN. NaN is carried
 * along by hand: the built-in makes numbers of it on some adapters.
 */
const combine = `
  let top = max(a.x, b.x);
  return vec2f(top, a.y * weight(a.x, top) + b.y * weight(b.x, top));`;

const forward = defineKernel({
  name: "softmax.forward",
  inputs: ["x"],
  outputs: ["y"],
  uniforms,
  knobs,
  source: (bindings, { log, lanes }) => wgsl`
    ${bindings}
    ${isNanHelper}
    fn weight(x: f32, top: f32) -> f32 {
      let lack = -abs(x - top);
      return select(select(exp(lack), lack, is_nan(lack)), 1.0, x == top);
    }
    ${lineFold(lanes, "state", "vec2f", combine)}
    ${openLine(lanes, "u.lines")}
      let base = line / u.inner * u.width * u.inner + line % u.inner;
      // x: the greatest element so far, y: the sum of e to the power of what the others lack to it.
      var state = vec2f(load_x(base + min(own, u.width - 1u) * u.inner), 0.0);
      for (var k = own; k < u.width; k += ${lanes}u) {
        let x = load_x(base + k * u.inner);
        let w = weight(x, state.x);
        if (x > state.x) { state = vec2f(x, state.y * w + 1.0); } else { state.y += w; }
      }
      ${foldLine(lanes, "state", "state")}
      let top = state.x;
      var total = state.y;
      if ((bitcast<u32>(top) & 0x7f800000u) == 0x7f800000u) { total = bitcast<f32>(bitcast<u32>(top) | 0x400000u); }
      if (!live) { return; }
    #if ${log}
      let offset = select(log(total), total, is_nan(total));
      for (var k = own; k < u.width; k += ${lanes}u) {
        let i = base + k * u.inner;
        store_y(i, (load_x(i) - top) - offset);
      }
    #else
      let scale = 1.0 / total;
      for (var k = own; k < u.width; k += ${lanes}u) {
        let i = base + k * u.inner;
        store_y(i, exp(load_x(i) - top) * scale);
      }
    #endif
    }`,
  grid: ({ lines }, { lanes }) => lineGroups(lines, lanes),
});

const backward = defineKernel({
  name: "softmax.backward",
  inputs: ["y", "dy"],
  outputs: ["dx"],
  uniforms,
  knobs,
  source: (bindings, { log, lanes }) => wgsl`
    ${bindings}
    ${isNanHelper}
    ${lineFold(lanes, "total", "f32", "return a + b;")}
    ${openLine(lanes, "u.lines")}
      let base = line / u.inner * u.width * u.inner + line % u.inner;
      var total = 0.0;
      for (var k = own; k < u.width; k += ${lanes}u) {
        let i = base + k * u.inner;
    #if ${log}
        total += load_dy(i);
    #else
        total += load_y(i) * load_dy(i);
    #endif
      }
      ${foldLine(lanes, "total", "total")}
      if (!live) { return; }
      for (var k = own; k < u.width; k += ${lanes}u) {
        let i = base + k * u.inner;
    #if ${log}
        let y = load_y(i);
        store_dx(i, load_dy(i) - select(exp(y), y, is_nan(y)) * total);
    #else
        store_dx(i, load_y(i) * (load_dy(i) - total));
    #endif
      }
    }`,
  grid: ({ lines }, { lanes }) => lineGroups(lines, lanes),
});

interface Params {
  readonly axis: number;
  readonly log: boolean;
}

/** The uniforms and knobs for these lines. */
function plan(x: Tensor, { axis, log }: Params) {
  const { outer, width, inner } = linesAlong(x.shape, axis);
  const lines = outer * inner;
  return [{ width, inner, lines }, { knobs: { log, lanes: lanesOf(width, inner, lines) } }] as const;
}

const define = (name: string) =>
  defineOp<[x: Tensor], Params>({
    name,
    forward: ([x], params) => forward({ x }, { y: x }, ...plan(x, params)).y,
    saves: { inputs: [false] },
    vjp: ([x], params, y, dy) => [backward({ y, dy }, { dx: x }, ...plan(x, params)).dx],
  });
const ops = { softmax: define("softmax"), logSoftmax: define("logSoftmax") };

const along = (x: Tensor, axis: number, name: keyof typeof ops): Tensor =>
  ops[name](isFloat(x.dtype) ? x : cast(x, "f32"), {
    axis: axisOf(axis, x.rank, name),
    log: name === "logSoftmax",
  });

/**
 * Softmax along an axis: `eˣ / Σ eˣ`, computed from x − max x in f32.
 *
 * An entry of −∞ gets probability 0 and gradient 0; a line of nothing else, or with +∞ or NaN in it, is NaN.
 *
 * @param x     any shape; integers count as f32
 * @param axis  the axis that sums to 1
 * @returns     the shape of `x`
 * @throws {ShapeError} when there is no such axis
 */
export const softmax = (x: Tensor, axis = -1): Tensor => along(x, axis, "softmax");

/**
 * The logarithm of {@link softmax}: `x − max x − log Σ e^(x − max x)`, which neither overflows nor loses small
 * probabilities.
 *
 * @param x     any shape; integers count as f32
 * @param axis  the axis whose exponentials sum to 1
 * @returns     the shape of `x`
 * @throws {ShapeError} when there is no such axis
 */
export const logSoftmax = (x: Tensor, axis = -1): Tensor => along(x, axis, "logSoftmax");
