/** The kernels of attention that go over rows: the softmax of scores, and which queries see a tile of keys. */
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import {
  boundsOf,
  enable,
  HIDDEN,
  isSeen,
  knobs,
  laneName,
  type Layout,
  needs,
  planOf,
  prefers,
  rangeOf,
  rowOf,
  ruleUniforms,
} from "./tile.wgsl.ts";

/** `across_NAME(v)`: one value of all lanes of a workgroup, which are one subgroup or meet in workgroup memory. */
const reduction = (
  name: string,
  subgroupOp: string,
  operator: (a: string, b: string) => string,
  lanes: number,
  subgroup: number,
): string =>
  subgroup > 0
    ? `fn ${name}(v: f32, lane: u32) -> f32 { return ${subgroupOp}(v); }`
    : `
    var<workgroup> all_${name}: array<f32, ${lanes}>;
    fn ${name}(v: f32, lane: u32) -> f32 {
      all_${name}[lane] = v;
      workgroupBarrier();
      var out = all_${name}[0];
      for (var i = 1u; i < ${lanes}u; i++) { out = ${operator("out", `all_${name}[i]`)}; }
      return out;
    }`;

/** Turns the scores of each row into probabilities, where they are, and keeps ln Σ exp(score). */
export function normalise(layout: Layout) {
  return defineKernel({
    name: "attention.softmax",
    inputs: (layout.visible ? ["visible"] : []) as readonly string[],
    outputs: [],
    updates: ["p", "total"] as readonly string[],
    uniforms: ruleUniforms(0),
    knobs,
    needs,
    prefers,
    forms: () => ({ p: "vec4" }),
    source(bindings, setting, device) {
      const plan = planOf(setting, device);
      const { lanes, subgroup } = plan;
      return wgsl`
        ${enable(plan)}
        ${bindings}
        ${boundsOf(layout, plan)}
        ${rowOf}
        ${reduction("highest", "subgroupMax", (a, b) => `max(${a}, ${b})`, lanes, subgroup)}
        ${reduction("sum_of", "subgroupAdd", (a, b) => `${a} + ${b}`, lanes, subgroup)}
        ${main(lanes, { subgroups: subgroup > 0 })}
          if (group >= u.pairs * u.down * ${layout.rows}u) { return; }
          let row = group % (u.down * ${layout.rows}u);
          let pair = group / (u.down * ${layout.rows}u);
          let place = u.first + row;
          let bounds = bounds_of(pair / u.groups, u.first + row / ${layout.rows}u * ${layout.rows}u, ${laneName(plan)});
          let start = (pair * u.rows + row) * u.pitch / 4u;
          let begin = bounds.x / 4u + ${laneName(plan)};
          let end = (bounds.y + 3u) / 4u;

          var tops = vec4f(${HIDDEN});
          for (var i = begin; i < end; i += ${lanes}u) { tops = max(tops, load_p(start + i)); }
          let top = highest(max(max(tops.x, tops.y), max(tops.z, tops.w)), lane);
          var sums = vec4f();
          for (var i = begin; i < end; i += ${lanes}u) {
            let score = load_p(start + i);
            let p = select(vec4f(), exp(score - top), ${isSeen("score")});
            sums += p;
            store_p(start + i, p);
          }
          let sum = sum_of((sums.x + sums.y) + (sums.z + sums.w), lane);
          let share = select(0.0, 1.0 / sum, sum != 0.0);
          for (var i = begin; i < end; i += ${lanes}u) { store_p(start + i, load_p(start + i) * share); }
          if (${laneName(plan)} == 0u && place < u.queries * u.repeats) {
            store_total(row_of(pair / u.groups, pair % u.groups, place), select(${HIDDEN}, top + log(sum), sum != 0.0));
          }
        }`;
    },
    grid: ({ pairs = 0, down = 0 }) => pairs * down * layout.rows,
  });
}

/** For each tile of query rows which keys some of its rows see, [x, y), and which all of them see, [z, w). */
export function bounds(layout: Layout) {
  const { rows } = layout;
  return defineKernel({
    name: "attention.bounds",
    inputs: (layout.visible ? ["visible"] : []) as readonly string[],
    updates: ["bounds"] as readonly string[],
    uniforms: ruleUniforms(0),
    outputs: [],
    knobs: {},
    forms: () => ({ bounds: "vec4" }),
    source: (bindings) => wgsl`
      ${bindings}
      ${rangeOf(layout)}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.pairs * u.down) { return; }
        let first = i % u.down * ${rows}u;
        var some = vec2u(u.keys, 0u);
        var all = vec2u(0u, u.keys);
        for (var place = first; place < min(first + ${rows}u, u.queries * u.repeats); place++) {
          let range = range_of(i / u.down, place);
          if (range.y > 0u) { some = vec2u(min(some.x, range.x), max(some.y, range.y)); }
          all = vec2u(max(all.x, range.x), min(all.y, range.y));
        }
        store_bounds(i, vec4i(select(vec4u(0u, 0u, all), vec4u(some, all), some.y > 0u)));
      }`,
    grid: ({ pairs = 0, down = 0 }) => Math.ceil((pairs * down) / 64),
  });
}

/** For each tile of 16 keys the queries [begin, end) among which all are that see one of them. */
export const spansOf = defineKernel({
  name: "attention.spans",
  inputs: ["visible"],
  outputs: ["spans"],
  uniforms: ruleUniforms(0),
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${rangeOf({ rows: 16, visible: true, rules: 0 })}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.pairs * u.down) { return; }
      let key = i % u.down * 16u;
      var span = vec2u(u.queries, 0u);
      for (var query = 0u; query < u.queries; query++) {
        let range = range_of(i / u.down, query * u.repeats);
        if (range.x < key + 16u && range.y > key) { span = vec2u(min(span.x, query), query + 1u); }
      }
      store_spans(2u * i, i32(span.x));
      store_spans(2u * i + 1u, i32(span.y));
    }`,
  grid: ({ pairs = 0, down = 0 }) => Math.ceil((pairs * down) / 64),
});
