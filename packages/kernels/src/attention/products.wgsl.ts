/** The three products of attention: rows with rows, scores with rows, and scores, transposed, with rows. */
import { defineKernel, fromLane, wgsl } from "@rot/tensor/kernel";
import {
  accumulate,
  boundsOf,
  count,
  eachRow,
  enable,
  gridOf,
  HIDDEN,
  isSeen,
  knobs,
  laneName,
  type Layout,
  MEMBER,
  needs,
  open,
  planOf,
  prefers,
  rowLoads,
  rowOf,
  ruled,
  ruleUniforms,
  STEPS,
} from "./tile.wgsl.ts";

/** What {@link scores} leaves behind. */
export type Kind = "score" | "probability" | "slope";

/** The sources of `a`, `b` and the width they share: queries and keys, or cotangents and values. */
const isOfValues = (kind: Kind): boolean => kind === "slope";

/**
 * One block of scores = a · bᵀ · scale, hidden where they are not seen; or the probabilities exp(score − total); or the
 * slopes p · (dy·vᵀ − delta) · scale, which take the place of the probabilities' cotangents.
 */
export function scores(layout: Layout, kind: Kind) {
  const { rows, rules, visible } = layout;
  const width = isOfValues(kind) ? "u.values" : "u.width";
  return defineKernel({
    name: `attention.${kind}`,
    inputs: [
      "a",
      "b",
      ...(visible ? ["visible"] : []),
      ...(kind === "score" ? [] : ["total"]),
      ...(kind === "slope" ? ["p"] : []),
    ] as readonly string[],
    outputs: [],
    updates: ["y"] as readonly string[],
    uniforms: ruleUniforms(rules),
    knobs,
    needs,
    prefers,
    forms: () => ({ a: "vec4", b: "vec4", y: "vec4", p: "vec4" }),
    source(bindings, setting, device) {
      const plan = planOf(setting, device);
      const a = rowLoads(layout, plan, (row) => ({
        start: `row_of(sequence, head, place + ${row}) * ${width}`,
        value: (start) => `load_a((${start} + k) / 4u)`,
      }));
      const finish =
        kind === "slope"
          ? // The product is NaN where v is, and the probability 0 where v is not seen.
            `let p = load_p(at);
            value = select(vec4f(), p * (value - load_total(row_of(sequence, head, place + r))) * u.scale, p != vec4f());`
          : `let range = range_of(sequence, place + r);
            value *= u.scale;
            ${rules > 0 ? "value = ruled(value, sequence, (place + r) / u.repeats, key);" : ""}
            value = select(vec4f(${HIDDEN}), value, (key >= range.xxxx) & (key < range.yyyy));
            ${kind === "probability" ? `value = select(vec4f(), exp(value - load_total(row_of(sequence, head, place + r))), ${isSeen("value")});` : ""}`;
      return wgsl`
        ${enable(plan)}
        ${bindings}
        ${boundsOf(layout, plan)}
        ${rowOf}
        ${ruled(layout)}
        ${open(plan)}
          let place = u.first + tile * ${rows}u;
          let bounds = bounds_of(sequence, place, ${laneName(plan)});
          if (block >= bounds.y || block + ${4 * plan.lanes}u <= bounds.x) {
            ${kind === "score" ? "" : `for (var r = 0u; r < ${rows}u && column < u.pitch; r++) { store_y(((pair * u.rows + tile * ${rows}u + r) * u.pitch + column) / 4u, vec4f()); }`}
            return;
          }
          ${a.starts}
          ${STEPS.map((s) => `let column_${s} = ((sequence * u.keys + min(column + ${s}u, u.keys - 1u)) * u.groups + head) * ${width};`).join("\n")}
          ${count(rows)
            .map((r) => `var acc_${r} = vec4f();`)
            .join(" ")}
          for (var k = 0u; k < ${width}; k += 4u) {
            ${a.loads}
            ${STEPS.map((s) => `let c_${s} = load_b((column_${s} + k) / 4u);`).join("\n")}
            ${STEPS.map((s) => `let b_${s} = vec4f(${STEPS.map((c) => `c_${c}.${MEMBER[s]}`).join(", ")});`).join("\n")}
            ${accumulate(rows, a.at)}
          }
          if (column >= u.pitch) { return; }
          let key = vec4u(column) + vec4u(0u, 1u, 2u, 3u);
          ${eachRow(rows)}
            let at = ((pair * u.rows + tile * ${rows}u + r) * u.pitch + column) / 4u;
            ${finish}
            store_y(at, value);
          }
        }`;
    },
    grid: gridOf,
  });
}

/**
 * Rows of scores times values: y[row] = Σ p[row, key] · b[key]. With `parts` > 1 the keys are cut, and each part makes a
 * result of its own.
 */
export function gather(layout: Layout) {
  const { rows, visible, rules } = layout;
  return defineKernel({
    name: "attention.gather",
    inputs: ["p", "b", ...(visible ? ["visible"] : [])] as readonly string[],
    outputs: [],
    updates: ["y"] as readonly string[],
    uniforms: ruleUniforms(0),
    knobs,
    needs,
    prefers,
    forms: () => ({ p: "vec4", b: "vec4", y: "vec4" }),
    source(bindings, setting, device) {
      const plan = planOf(setting, device);
      const p = rowLoads(layout, plan, (row) => ({
        start: `(pair * u.rows + tile * ${rows}u + ${row}) * u.pitch / 4u`,
        value: (start) => `load_p(${start} + key / 4u)`,
      }));
      // 0 · NaN is NaN, and what no row of the tile sees may be NaN.
      const used =
        visible || rules > 0
          ? p.parts.map((n) => `(a_${n} != vec4f())`).join(" | ")
          : "vec4<bool>(key < bounds.y, key + 1u < bounds.y, key + 2u < bounds.y, key + 3u < bounds.y)";
      return wgsl`
        ${enable(plan)}
        ${bindings}
        ${boundsOf(layout, plan)}
        ${rowOf}
        ${open(plan)}
          let place = u.first + tile * ${rows}u;
          let bounds = bounds_of(sequence, place, ${laneName(plan)});
          ${p.starts}
          ${count(rows)
            .map((r) => `var acc_${r} = vec4f();`)
            .join(" ")}
          let end = min(bounds.y, (part + 1u) * u.part);
          for (var key = max(bounds.x / 4u * 4u, part * u.part); key < end; key += 4u) {
            ${p.loads}
            ${STEPS.map((s) => `let v_${s} = load_b((((sequence * u.keys + key + ${s}u) * u.groups + head) * u.columns + column) / 4u);`).join("\n")}
            ${
              (visible || rules > 0) && plan.subgroup > 0
                ? `let mine = select(vec4f(), vec4f(1.0), ${used}); let used = subgroupMax(mine) > vec4f();`
                : `let used = ${used};`
            }
            ${STEPS.map((s) => `let b_${s} = select(vec4f(), v_${s}, used.${MEMBER[s]});`).join("\n")}
            ${accumulate(rows, p.at)}
          }
          let rows_left = u.queries * u.repeats - min(place, u.queries * u.repeats);
          if (column >= u.columns) { return; }
          ${eachRow(rows)}
            if (r < rows_left) {
              store_y((part * u.stride + row_of(sequence, head, place + r) * u.columns + column) / 4u, value);
            }
          }
        }`;
    },
    grid: gridOf,
  });
}

/** Adds to each key the rows that saw it: y[key] += Σ p[row, key] · b[row]. */
export function scatter(layout: Layout) {
  const { visible } = layout;
  const rows = 16;
  return defineKernel({
    name: "attention.scatter",
    inputs: ["p", "b", ...(visible ? ["spans"] : [])] as readonly string[],
    outputs: [],
    updates: ["y"] as readonly string[],
    uniforms: ruleUniforms(0),
    knobs,
    needs,
    prefers,
    forms: () => ({ p: "vec4", b: "vec4", y: "vec4" }),
    source(bindings, setting, device) {
      const plan = planOf(setting, device);
      const { subgroup } = plan;
      const pAt = (step: string, block: string): string =>
        `load_p(((pair * u.rows + row + ${step}) * u.pitch + keys) / 4u + ${block})`;
      const shared = count(Math.ceil(rows / Math.max(subgroup, 1)));
      const loads =
        subgroup > 0
          ? shared.map((n) => `let a_${n} = ${pAt("subgroupLane % 4u", `${(n * subgroup) / 4}u + subgroupLane / 4u`)};`)
          : STEPS.flatMap((s) => STEPS.map((block) => `let a_${s}_${block} = ${pAt(`${s}u`, `${block}u`)};`));
      const at = (r: number, s: number): string => {
        if (subgroup === 0) return `a_${s}_${r >> 2}.${MEMBER[r & 3]}`;
        const within = r % subgroup;
        return fromLane(`a_${Math.floor(r / subgroup)}.${MEMBER[r & 3]}`, (within >> 2) * 4 + s, subgroup);
      };
      return wgsl`
        ${enable(plan)}
        ${bindings}
        ${rowOf}
        ${open(plan)}
          let keys = tile * ${rows}u;
          // The first query that can see one of these keys, and the chunk's rows from its tile on.
          var begin = u32(max(i32(keys) - u.reach, 0)) * u.repeats;
          var end = u.queries * u.repeats;
          ${
            visible
              ? `let span = 2u * (select(sequence, 0u, u.step == 0u) * u.down + keys / ${rows}u);
          begin = max(begin, u32(load_spans(span)) * u.repeats);
          end = u32(load_spans(span + 1u)) * u.repeats;`
              : ""
          }
          begin = (max(begin, u.first) - u.first) / 4u * 4u;
          end = min(max(end, u.first) - u.first, u.rows);
          ${count(rows)
            .map((r) => `var acc_${r} = vec4f();`)
            .join(" ")}
          for (var row = begin; row < end; row += 4u) {
            ${loads.join("\n")}
            ${STEPS.map((s) => `let b_${s} = load_b((row_of(sequence, head, u.first + row + ${s}u) * u.columns + column) / 4u);`).join("\n")}
            ${accumulate(rows, at)}
          }
          if (column >= u.columns) { return; }
          ${eachRow(rows)}
            if (keys + r < u.keys) {
              let at = (((sequence * u.keys + keys + r) * u.groups + head) * u.columns + column) / 4u;
              store_y(at, load_y(at) + value);
            }
          }
        }`;
    },
    grid: gridOf,
  });
}
