/** Softmax and its logarithm along one axis: one reading of a line finds its greatest element and the sum, the next writes. */
import { isFloat } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp } from "../op.ts";
import { axisOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { foldLine, lanesOf, lineFold, lineGroups, lineLanes, linesAlong, openLine, wideLanesOf } from "./lines.wgsl.ts";

const uniforms = { width: "u32", inner: "u32", lines: "u32" } as const;
const knobs = { log: [false, true], wide: [false, true], lanes: lineLanes } as const;

/** Neighbouring lines of whole vectors are read four elements at a time. `V` is one load, `W` its words. */
const vectors = (wide: boolean): string =>
  wide
    ? `alias V = vec4f; alias W = vec4u;
       fn across(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }
       fn greatest(v: V) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
       fn largest(w: W) -> u32 { return max(max(w.x, w.y), max(w.z, w.w)); }`
    : `alias V = f32; alias W = u32;
       fn across(v: V) -> f32 { return v; }
       fn greatest(v: V) -> f32 { return v; }
       fn largest(w: W) -> u32 { return w; }`;

/** The sum that belongs to a line with NaN or +∞ in it: NaN, in bits that no compiler looks through. */
const spoiled = "bitcast<f32>(0x7fc00000u | min(u.width, 0u))";

/**
 * Two loads a round and one walk for both the greatest element and the sum. A lane begins at the least number, so that
 * no difference is ever that of two infinities, and looks for NaN in the bits: the built-ins make numbers of it on some adapters.
 */
const forward = defineKernel({
  name: "softmax.forward",
  inputs: ["x"],
  outputs: ["y"],
  uniforms,
  knobs,
  forms: ({ wide }) => (wide ? { x: "vec4", y: "vec4" } : {}),
  source: (bindings, { log, wide, lanes }) => wgsl`
    ${bindings}
    ${vectors(wide)}
    const least = -3.4028234663852886e38;
    ${lineFold(lanes, "state", "vec2f", "let top = max(a.x, b.x); return vec2f(top, a.y * exp(a.x - top) + b.y * exp(b.x - top));")}
    ${openLine(lanes, "u.lines")}
      let steps = u.width${wide ? " / 4u" : ""};
      let base = line / u.inner * steps * u.inner + line % u.inner;
      // x: the greatest element so far, y: the sum of e to the power of what the others lack to it.
      var state = vec2f(least, 0.0);
      var words = W();
      for (var k = own; k < steps; k += ${2 * lanes}u) {
        let hasNext = k + ${lanes}u < steps;
        let x = load_x(base + k * u.inner);
        let next = load_x(base + select(k, k + ${lanes}u, hasNext) * u.inner);
        words = max(words, max(bitcast<W>(x) & W(0x7fffffffu), bitcast<W>(next) & W(0x7fffffffu)));
        let top = max(greatest(max(x, next)), least);
        if (top > state.x) { state = vec2f(top, state.y * exp(state.x - top)); }
        state.y += across(exp(x - state.x) + select(V(), exp(next - state.x), hasNext));
      }
      if (largest(words) > 0x7f800000u || (bitcast<u32>(state.x) & 0x7fffffffu) == 0x7f800000u) { state = vec2f(least, ${spoiled}); }
      ${foldLine(lanes, "state", "state")}
      let top = state.x;
      // Nothing but −∞ adds up to 0.
      let total = select(state.y, ${spoiled}, state.y == 0.0);
      if (!live) { return; }
    #if ${log}
      let offset = select(log(total), total, (bitcast<u32>(total) & 0x7fffffffu) > 0x7f800000u);
    #else
      let scale = 1.0 / total;
    #endif
      for (var k = own; k < steps; k += ${2 * lanes}u) {
        let hasNext = k + ${lanes}u < steps;
        let at = base + k * u.inner;
        let after = base + select(k, k + ${lanes}u, hasNext) * u.inner;
    #if ${log}
        let y = (load_x(at) - top) - offset;
        let next = (load_x(after) - top) - offset;
    #else
        let y = exp(load_x(at) - top) * scale;
        let next = exp(load_x(after) - top) * scale;
    #endif
        store_y(at, y);
        if (hasNext) { store_y(after, next); }
      }
    }`,
  grid: ({ lines }, { lanes }) => lineGroups(lines, lanes),
});

const backward = defineKernel({
  name: "softmax.backward",
  inputs: ["y", "dy"],
  outputs: ["dx"],
  uniforms,
  knobs,
  forms: ({ wide }) => (wide ? { y: "vec4", dy: "vec4", dx: "vec4" } : {}),
  source: (bindings, { log, wide, lanes }) => wgsl`
    ${bindings}
    ${vectors(wide)}
    fn is_nan(x: V) -> ${wide ? "vec4<bool>" : "bool"} { return (bitcast<W>(x) & W(0x7fffffffu)) > W(0x7f800000u); }
    ${lineFold(lanes, "total", "f32", "return a + b;")}
    ${openLine(lanes, "u.lines")}
      let steps = u.width${wide ? " / 4u" : ""};
      let base = line / u.inner * steps * u.inner + line % u.inner;
      var sums = V();
      for (var k = own; k < steps; k += ${lanes}u) {
        let i = base + k * u.inner;
    #if ${log}
        sums += load_dy(i);
    #else
        sums += load_y(i) * load_dy(i);
    #endif
      }
      var total = across(sums);
      ${foldLine(lanes, "total", "total")}
      if (!live) { return; }
      for (var k = own; k < steps; k += ${lanes}u) {
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
function plan(y: Tensor, { axis, log }: Params) {
  const { outer, width, inner } = linesAlong(y.shape, axis);
  const lines = outer * inner;
  const wide = inner === 1 && width % 4 === 0;
  const lanes = wide ? wideLanesOf(y.device, width / 4, lines) : lanesOf(width, inner, lines);
  return [{ width, inner, lines }, { knobs: { log, wide, lanes } }] as const;
}

const define = (name: string) =>
  defineOp<[x: Tensor], Params>({
    name,
    forward: ([x], params) => forward({ x }, { y: x }, ...plan(x, params)).y,
    saves: { inputs: [false] },
    vjp: ([x], params, y, dy) => [backward({ y, dy }, { dx: x }, ...plan(y, params)).dx],
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
