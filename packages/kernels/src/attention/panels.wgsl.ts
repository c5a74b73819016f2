/**
 * Attention for CPU adapters with subgroups, by panels: queries, keys and values are first laid out in the order in which
 * one subgroup reads them, and scores are kept in that order too. So no load of a product strides, nothing is turned within
 * one, and a workgroup is one subgroup that meets no barrier. Workgroups are counted along three axes, because to divide
 * costs a CPU adapter as much as a whole row of a tile.
 *
 * A tile is {@link ROWS} query rows of a pair of a sequence and a key/value head. Panels of queries and of scores are vectors
 * of four along the inner axis, [pair, tile, inner / 4, ROWS]; those of keys and values are vectors of four columns,
 * [pair, panel, inner, lanes of a subgroup].
 */
import { defineKernel, fromLane, main, wgsl } from "@rot/tensor/kernel";
import {
  accumulate,
  count,
  eachRow,
  HIDDEN,
  isSeen,
  type Layout,
  MEMBER,
  rangeOf,
  rowOf,
  ruled,
  ruleUniforms,
  STEPS,
} from "./tile.wgsl.ts";

/** Query rows of a tile. */
export const ROWS = 32;

const enable = "enable subgroups;\ndiagnostic(off, subgroup_uniformity);";
/** The name is newer than the type. */
const needs = (): readonly GPUFeatureName[] => ["subgroups" as GPUFeatureName];

/** Lays out a chunk of queries, scaled. Each invocation takes a row. */
export const packRows = defineKernel({
  name: "attention.pack.queries",
  inputs: ["x"],
  outputs: [],
  updates: ["y"],
  uniforms: ruleUniforms(0),
  knobs: {},
  forms: () => ({ x: "vec4", y: "vec4" }),
  source: (bindings) => wgsl`
    ${bindings}
    ${rowOf}
    ${main(ROWS)}
      let steps = u.width / 4u;
      let place = u.first + groupId.x * ${ROWS}u + lane;
      let start = row_of(groupId.y / u.groups, groupId.y % u.groups, place) * steps;
      var to = (groupId.y * u.down + groupId.x) * steps * ${ROWS}u + lane;
      for (var step = 0u; step < steps; step++) {
        store_y(to, load_x(start + step) * u.scale);
        to += ${ROWS}u;
      }
    }`,
  grid: ({ down = 0, pairs = 0 }) => [down, pairs],
});

/** Whether some query of a sequence sees some of the keys [begin, end): the others need not be laid out. */
const wanted = ({ visible }: Layout): string => `
  fn wanted(sequence: u32, begin: u32, end: u32) -> bool {
    ${
      visible
        ? `let first = select(sequence, 0u, u.step == 0u) * u.part;
    for (var tile = 0u; tile < u.part; tile++) {
      let seen = vec4u(load_bounds(first + tile));
      if (begin < seen.y && end > seen.x) { return true; }
    }
    return false;`
        : "return true;"
    }
  }`;

/** What laying out keys and laying out values have in common. */
const packing = ({ visible }: Layout) => ({
  inputs: ["x", ...(visible ? ["bounds"] : [])] as readonly string[],
  outputs: [] as const,
  updates: ["y"] as readonly string[],
  uniforms: ruleUniforms(0),
  knobs: {},
  forms: () => ({ x: "vec4", y: "vec4", bounds: "vec4" }) as const,
});

/** Lays out keys, so that four neighbours stand in a vector. Each invocation takes four keys. */
export function packKeys(layout: Layout) {
  return defineKernel({
    name: "attention.pack.keys",
    ...packing(layout),
    source: (bindings, _, { subgroupSize: lanes }) => wgsl`
      ${bindings}
      ${wanted(layout)}
      ${main(lanes)}
        let panel = groupId.x;
        let sequence = groupId.y / u.groups;
        if (!wanted(sequence, panel * ${4 * lanes}u, (panel + 1u) * ${4 * lanes}u)) { return; }
        let key = (panel * ${lanes}u + lane) * 4u;
        let steps = u.width / 4u;
        ${STEPS.map((s) => `let start_${s} = ((sequence * u.keys + min(key + ${s}u, u.keys - 1u)) * u.groups + groupId.y % u.groups) * steps;`).join("\n")}
        var to = (groupId.y * u.stride + panel) * u.width * ${lanes}u + lane;
        for (var step = 0u; step < steps; step++) {
          ${STEPS.map((s) => `let x_${s} = load_x(start_${s} + step);`).join("\n")}
          ${STEPS.map((s) => `store_y(to + ${s * lanes}u, vec4f(${STEPS.map((c) => `x_${c}.${MEMBER[s]}`).join(", ")}));`).join("\n")}
          to += ${4 * lanes}u;
        }
      }`,
    grid: ({ stride = 0, pairs = 0 }) => [stride, pairs],
  });
}

/** Keys that an invocation of {@link packValues} takes. */
const BLOCK = 16;

/** Lays out values. Each invocation takes four columns of some keys. */
export function packValues(layout: Layout) {
  return defineKernel({
    name: "attention.pack.values",
    ...packing(layout),
    source: (bindings, _, { subgroupSize: lanes }) => wgsl`
      ${bindings}
      ${wanted(layout)}
      ${main(lanes)}
        let sequence = groupId.z / u.groups;
        let first = groupId.y * ${BLOCK}u;
        if (!wanted(sequence, first, first + ${BLOCK}u)) { return; }
        let quad = groupId.x * ${lanes}u + lane;
        let steps = u.values / 4u;
        let start = (sequence * u.keys * u.groups + groupId.z % u.groups) * steps + min(quad, steps - 1u);
        let to = (groupId.z * u.parts + groupId.x) * u.pitch * ${lanes}u + lane;
        for (var key = first; key < min(first + ${BLOCK}u, u.pitch); key++) {
          let x = load_x(start + min(key, u.keys - 1u) * u.groups * steps);
          store_y(to + key * ${lanes}u, select(vec4f(), x, key < u.keys));
        }
      }`,
    grid: ({ parts = 0, pitch = 0, pairs = 0 }) => [parts, Math.ceil(pitch / BLOCK), pairs],
  });
}

/** Opens a product: `panel`, `tile`, `pair` and `sequence` of a workgroup, and the keys that its rows see. */
const openTile = (lanes: number): string => `
  ${main(lanes, { subgroups: true })}
    let panel = groupId.x;
    let tile = groupId.y;
    let pair = groupId.z;
    let sequence = pair / u.groups;
    let seen = vec4u(load_bounds(select(sequence, 0u, u.step == 0u) * u.part + u.first / ${ROWS}u + tile));
    ${count(ROWS)
      .map((r) => `var acc_${r} = vec4f();`)
      .join(" ")}`;

/**
 * A step of four along the inner axis. Loads come first: on a CPU each is a loop with branches, around which a compiler
 * spills what it has at hand.
 *
 * @param guard  with 0 · NaN in mind, takes out rows of `b` that meet nothing but zeros
 */
function multiplyStep(lanes: number, guard: boolean): string {
  const parts = count(ROWS / lanes);
  const mask = `
    let used = subgroupMax(select(vec4f(), vec4f(1.0), ${parts.map((i) => `(a_${i} != vec4f())`).join(" | ")})) > vec4f();
    ${STEPS.map((s) => `let b_${s} = select(vec4f(), x_${s}, used.${MEMBER[s]});`).join("\n")}`;
  return `
    ${parts.map((i) => `let a_${i} = load_a(atA + ${i * lanes}u);`).join("\n")}
    ${STEPS.map((s) => `let ${guard ? "x" : "b"}_${s} = load_b(atB + ${s * lanes}u);`).join("\n")}
    ${guard ? mask : ""}
    ${accumulate(ROWS, (r, s) => fromLane(`a_${Math.floor(r / lanes)}.${MEMBER[s]}`, r % lanes, lanes))}
    atA += ${ROWS}u;
    atB += ${4 * lanes}u;`;
}

/** Scores of a chunk, hidden where they are not seen: panels of queries times panels of keys. */
export function panelScores(layout: Layout) {
  const { rules, visible } = layout;
  return defineKernel({
    name: "attention.panel.scores",
    inputs: ["a", "b", "bounds", ...(visible ? ["visible"] : [])] as readonly string[],
    outputs: [],
    updates: ["y"] as readonly string[],
    uniforms: ruleUniforms(rules),
    knobs: {},
    needs,
    forms: () => ({ a: "vec4", b: "vec4", y: "vec4", bounds: "vec4" }),
    source: (bindings, _, { subgroupSize: lanes }) => wgsl`
      ${enable}
      ${bindings}
      ${rangeOf(layout)}
      ${ruled(layout)}
      ${openTile(lanes)}
        let block = panel * ${4 * lanes}u;
        if (block >= seen.y || block + ${4 * lanes}u <= seen.x) { return; }
        var atA = (pair * u.down + tile) * u.width * ${ROWS / 4}u + subgroupLane;
        var atB = (pair * u.stride + panel) * u.width * ${lanes}u + subgroupLane;
        for (var k = 0u; k < u.width; k += 4u) {
          ${multiplyStep(lanes, false)}
        }
        let inside = ${rules === 0} && block >= seen.z && block + ${4 * lanes}u <= seen.w;
        let key = vec4u(block + 4u * subgroupLane) + vec4u(0u, 1u, 2u, 3u);
        let to = ((pair * u.down + tile) * (u.pitch / 4u) + panel * ${lanes}u + subgroupLane) * ${ROWS}u;
        ${eachRow(ROWS)}
          if (!inside) {
            let place = u.first + tile * ${ROWS}u + r;
            let range = range_of(sequence, place);
            ${rules > 0 ? "value = ruled(value, sequence, place / u.repeats, key);" : ""}
            value = select(vec4f(${HIDDEN}), value, (key >= range.xxxx) & (key < range.yyyy));
          }
          store_y(to + r, value);
        }
      }`,
    grid: ({ parts = 0, down = 0, pairs = 0 }) => [parts, down, pairs],
  });
}

/** Scores to exp(score − the row's highest), where they are; one over their sum, and ln Σ exp(score). An invocation takes a row. */
export const panelSoftmax = defineKernel({
  name: "attention.panel.softmax",
  inputs: ["bounds"],
  outputs: [],
  updates: ["p", "share", "total"],
  uniforms: ruleUniforms(0),
  knobs: {},
  forms: () => ({ p: "vec4", bounds: "vec4" }),
  source: (bindings) => wgsl`
    ${bindings}
    ${rowOf}
    ${main(ROWS)}
      let tile = groupId.y * u.down + groupId.x;
      let sequence = groupId.y / u.groups;
      let seen = vec4u(load_bounds(select(sequence, 0u, u.step == 0u) * u.part + u.first / ${ROWS}u + groupId.x));
      let start = tile * u.pitch * ${ROWS / 4}u + lane;
      let begin = start + seen.x / 4u * ${ROWS}u;
      let end = start + (seen.y + 3u) / 4u * ${ROWS}u;

      var tops = vec4f(${HIDDEN});
      for (var i = begin; i < end; i += ${ROWS}u) { tops = max(tops, load_p(i)); }
      let top = max(max(tops.x, tops.y), max(tops.z, tops.w));
      var sums = vec4f();
      for (var i = begin; i < end; i += ${ROWS}u) {
        let score = load_p(i);
        let p = select(vec4f(), exp(score - top), ${isSeen("score")});
        sums += p;
        store_p(i, p);
      }
      let sum = (sums.x + sums.y) + (sums.z + sums.w);
      store_share(tile * ${ROWS}u + lane, select(0.0, 1.0 / sum, sum != 0.0));
      let place = u.first + groupId.x * ${ROWS}u + lane;
      if (place < u.queries * u.repeats) {
        store_total(row_of(sequence, groupId.y % u.groups, place), select(${HIDDEN}, top + log(sum), sum != 0.0));
      }
    }`,
  grid: ({ down = 0, pairs = 0 }) => [down, pairs],
});

/** Panels of scores times panels of values, each row times its share. */
export function panelGather({ visible, rules }: Layout) {
  return defineKernel({
    name: "attention.panel.gather",
    inputs: ["a", "b", "bounds", "share"] as readonly string[],
    outputs: [],
    updates: ["y"] as readonly string[],
    uniforms: ruleUniforms(0),
    knobs: {},
    needs,
    forms: () => ({ a: "vec4", b: "vec4", y: "vec4", bounds: "vec4" }),
    source: (bindings, _, { subgroupSize: lanes }) => wgsl`
      ${enable}
      ${bindings}
      ${openTile(lanes)}
        let first = seen.x / 4u;
        var atA = ((pair * u.down + tile) * (u.pitch / 4u) + first) * ${ROWS}u + subgroupLane;
        var atB = ((pair * u.parts + panel) * u.pitch + first * 4u) * ${lanes}u + subgroupLane;
        for (var key = first * 4u; key < seen.y; key += 4u) {
          ${multiplyStep(lanes, visible || rules > 0)}
        }
        let column = (panel * ${lanes}u + subgroupLane) * 4u;
        if (column >= u.values) { return; }
        let place = u.first + tile * ${ROWS}u;
        let left = u.queries * u.repeats - place;
        // A row's place among those of [B, Lq, H], without a division for each.
        var repeat = place % u.repeats;
        var row = (sequence * u.queries + place / u.repeats) * u.heads + pair % u.groups * u.repeats;
        ${eachRow(ROWS)}
          if (r < left) {
            store_y(((row + repeat) * u.values + column) / 4u, value * load_share((pair * u.down + tile) * ${ROWS}u + r));
          }
          repeat++;
          if (repeat == u.repeats) { repeat = 0u; row += u.heads; }
        }
      }`,
    grid: ({ parts = 0, down = 0, pairs = 0 }) => [parts, down, pairs],
  });
}
