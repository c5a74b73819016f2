/** The kernels of the cross-entropy over a block of logits [rows, columns], the columns from `begin` on of the vocabulary. */
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";

/** What is known of each row after some of its columns: a tensor [rows, 3]. */
const state = `
  const TOP = 0u;    // the greatest logit
  const TOTAL = 1u;  // the sum of e to the power of what the others lack to it
  const PICKED = 2u; // the logit of the label`;

/** By its bits: compilers may take NaN for equal to anything. */
const isNan = "fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }";

const MEMBER = [".x", ".y", ".z", ".w"] as const;
/** The elements of one load, by name. */
const elements = (wide: boolean): readonly string[] => (wide ? MEMBER : [""]);

const vectors = { wide: [false, true] } as const;

/** Adds the columns of a block to the state of its rows. One workgroup a row. */
export const gatherState = defineKernel({
  name: "crossEntropy.state",
  inputs: ["logits", "labels"],
  outputs: [],
  updates: ["state"],
  uniforms: { rows: "u32", columns: "u32", begin: "u32" },
  knobs: { lanes: [64, 256], ...vectors },
  forms: ({ wide }) => ({ logits: wide ? "vec4" : "scalar" }),
  // Infinities meet here: the greatest logit counts as e⁰ = 1 even where its difference to itself is NaN. NaN is carried
  // along by hand: the built-ins make numbers of it on some adapters.
  source: (bindings, { lanes, wide }) => wgsl`
    ${bindings}
    ${isNan}
    ${state}
    fn weight(x: f32, top: f32) -> f32 {
      let lack = -abs(x - top);
      return select(select(exp(lack), lack, is_nan(lack)), 1.0, x == top);
    }
    fn joined(a: vec2f, b: vec2f) -> vec2f {
      let top = max(a.x, b.x);
      return vec2f(top, a.y * weight(a.x, top) + b.y * weight(b.x, top));
    }
    var<workgroup> shared_sums: array<vec2f, ${lanes}>;
    ${main(lanes)}
      if (group >= u.rows) { return; }
      let width = u.columns / ${wide ? 4 : 1}u;
      let base = group * width;
      var sum = vec2f(load_logits(base + min(lane, width - 1u))${wide ? ".x" : ""}, 0.0);
      for (var i = lane; i < width; i += ${lanes}u) {
        let x = load_logits(base + i);
    #if ${wide}
        let most = max(max(x.x, x.y), max(x.z, x.w));
    #else
        let most = x;
    #endif
        if (most > sum.x) { sum = vec2f(most, sum.y * weight(sum.x, most)); }
        ${elements(wide)
          .map((member) => `sum.y += weight(x${member}, sum.x);`)
          .join(" ")}
      }
      shared_sums[lane] = sum;
      for (var half = ${lanes / 2}u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { shared_sums[lane] = joined(shared_sums[lane], shared_sums[lane + half]); }
      }
      if (lane > 0u) { return; }
      sum = shared_sums[0];
      let at = 3u * group;
      if (u.begin > 0u) { sum = joined(vec2f(load_state(at + TOP), load_state(at + TOTAL)), sum); }
      store_state(at + TOP, sum.x);
      store_state(at + TOTAL, sum.y);
      // A label before the block wraps round to far behind it.
      let label = u32(load_labels(group)) - u.begin;
      if (label < u.columns) {
        let k = group * u.columns + label;
        store_state(at + PICKED, load_logits(${wide ? "k / 4u)[k % 4u]" : "k)"});
      }
    }`,
  grid: ({ rows }) => rows,
});

/** −ln softmax(logits)[label] of each row: 0 where the label is ignored, NaN where there is no such label. */
export const finishLoss = defineKernel({
  name: "crossEntropy.loss",
  inputs: ["state", "labels"],
  outputs: ["loss"],
  uniforms: { rows: "u32", vocabulary: "u32", ignore: "i32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${state}
    fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }
    ${main(64)}
      let row = group * 64u + lane;
      if (row >= u.rows) { return; }
      let label = i32(load_labels(row));
      let top = load_state(3u * row + TOP);
      let total = load_state(3u * row + TOTAL);
      var loss = log(total) - (load_state(3u * row + PICKED) - top);
      // Infinities would cancel to NaN on some adapters only; a constant may not be NaN, a variable may.
      var nan = 0x7fc00000u;
      if (!is_finite(top) || !is_finite(total) || u32(label) >= u.vocabulary) { loss = bitcast<f32>(nan); }
      store_loss(row, select(loss, 0.0, label == u.ignore));
    }`,
  grid: ({ rows }) => Math.ceil(rows / 64),
});

/** Vectors or elements that one invocation of {@link slopes} turns round. */
const EACH = 4;

/** Makes of logits, in place, (softmax − onehot) · scale: their cotangent. Rows that count for nothing get 0. */
export const slopes = defineKernel({
  name: "crossEntropy.slopes",
  inputs: ["state", "labels", "scale"],
  outputs: [],
  updates: ["logits"],
  uniforms: { rows: "u32", columns: "u32", begin: "u32", segments: "u32", vocabulary: "u32", ignore: "i32" },
  knobs: vectors,
  forms: ({ wide }) => ({ logits: wide ? "vec4" : "scalar" }),
  source: (bindings, { wide }) => wgsl`
    ${bindings}
    ${isNan}
    ${state}
    fn grown(x: f32) -> f32 { return select(exp(x), x, is_nan(x)); }
    ${main(64)}
      let row = group / u.segments;
      if (row >= u.rows) { return; }
      let width = u.columns / ${wide ? 4 : 1}u;
      let top = load_state(3u * row + TOP);
      let scale = load_scale(row);
      let share = scale / load_state(3u * row + TOTAL);
      let label = u32(load_labels(row));
      let counts = label < u.vocabulary && bitcast<i32>(label) != u.ignore;
      for (var step = 0u; step < ${EACH}u; step++) {
        let i = group % u.segments * ${64 * EACH}u + step * 64u + lane;
        if (i >= width) { return; }
        var x = load_logits(row * width + i);
        ${elements(wide)
          .map((member, e) => {
            const column = wide ? `4u * i + ${e}u` : "i";
            return `x${member} = grown(x${member} - top) * share - select(0.0, scale, u.begin + ${column} == label);`;
          })
          .join("\n")}
        if (!counts) { x = ${wide ? "vec4f()" : "0.0"}; }
        store_logits(row * width + i, x);
      }
    }`,
  grid: ({ rows, segments }) => rows * segments,
});

/** Workgroups that {@link slopes} needs for a row. */
export const segmentsOf = (columns: number, wide: boolean): number => Math.ceil(columns / (wide ? 4 : 1) / (64 * EACH));
