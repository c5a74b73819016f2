/**
 * Attention in one kernel with an online softmax, for GPUs: scores live in registers and, a tile at a time, in workgroup
 * memory, and never in a buffer.
 *
 * A workgroup makes {@link ROWS} query rows of a pair of a sequence and a key/value head, walking along the keys they see,
 * {@link KEYS} at a time. Its {@link LANES} lanes are 16 by 8: each has four rows, four keys of a tile, and of the values
 * four of every {@link COLUMNS} columns. It takes 15.5 KiB of workgroup memory, which every WebGPU device has.
 */
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import { HIDDEN, isSeen, type Layout, MEMBER, rangeOf, rowOf, ruled, ruleUniforms, STEPS } from "./tile.wgsl.ts";

/** Query rows of a workgroup. */
export const ROWS = 64;
/** Columns of the values that the lanes take at one time. */
export const COLUMNS = 32;
/** Beyond it sums leave the registers. */
export const MOST_WIDTH = 256;

const KEYS = 32;
const LANES = 128;
/** Vectors of a row of a tile: eight, and one between, so that lanes meet in different banks. */
const PITCH = 9;

/** Runs `body` for each vector of a tile of so many rows: `i` is its row, `j` its place in it. */
const eachVector = (rows: number, body: string): string => `
  for (var n = lane; n < ${rows * 8}u; n += ${LANES}u) {
    let i = n / 8u;
    let j = n % 8u;
    ${body}
  }`;

/** @param blocks  how many times {@link COLUMNS} the values are wide, rounded up */
export function flash(layout: Layout, blocks: number) {
  const { rules, visible } = layout;
  const isGuarded = visible || rules > 0;
  return defineKernel({
    name: "attention.flash",
    inputs: ["q", "k", "v", "bounds", ...(visible ? ["visible"] : [])] as readonly string[],
    outputs: [],
    updates: ["y", "total"] as readonly string[],
    uniforms: ruleUniforms(rules),
    knobs: {},
    forms: () => ({ q: "vec4", k: "vec4", v: "vec4", y: "vec4", bounds: "vec4" }),
    // Loops over rows and blocks are left to the driver to unroll: lavapipe takes many seconds for them written out.
    source: (bindings) => wgsl`
      ${bindings}
      ${rangeOf(layout)}
      ${rowOf}
      ${ruled(layout)}
      var<workgroup> seen: vec2u;
      var<workgroup> left: array<vec4f, ${ROWS * PITCH}>;
      var<workgroup> right: array<vec4f, ${KEYS * PITCH}>;
      var<workgroup> handed: array<vec4f, ${LANES}>;

      ${main(LANES)}
        let pair = groupId.y;
        let sequence = pair / u.groups;
        let head = pair % u.groups;
        let first = groupId.x * ${ROWS}u;
        if (lane == 0u) {
          seen = vec2u(load_bounds(select(sequence, 0u, u.step == 0u) * u.down + groupId.x).xy);
        }
        let keys = workgroupUniformLoad(&seen);
        let row = lane / 8u * 4u;
        let column = lane % 8u;
        let peers = lane / 8u * 8u;
        var ranges: array<vec2u, 4>;
        for (var s = 0u; s < 4u; s++) { ranges[s] = range_of(sequence, first + row + s); }
        var top = vec4f(${HIDDEN});
        var sum = vec4f();
        var acc: array<vec4f, ${4 * blocks}>;

        for (var begin = keys.x; begin < keys.y; begin += ${KEYS}u) {
          ${STEPS.map((s) => `var score_${s} = vec4f();`).join("\n")}
          for (var k = 0u; k < u.width; k += 32u) {
            ${eachVector(
              ROWS,
              `let at = k + j * 4u;
               var x = vec4f();
               if (at < u.width) { x = load_q((row_of(sequence, head, first + i) * u.width + at) / 4u); }
               left[i * ${PITCH}u + j] = x;`,
            )}
            ${eachVector(
              KEYS,
              `let at = k + j * 4u;
               let key = min(begin + i, u.keys - 1u);
               var x = vec4f();
               if (at < u.width) { x = load_k((((sequence * u.keys + key) * u.groups + head) * u.width + at) / 4u); }
               // Neighbouring lanes read every fourth key: those stand side by side.
               right[(i % 4u * 8u + i / 4u) * ${PITCH}u + j] = x;`,
            )}
            workgroupBarrier();
            for (var j = 0u; j < 8u; j++) {
              ${STEPS.map((s) => `let key_${s} = right[(${8 * s}u + column) * ${PITCH}u + j];`).join("\n")}
              ${STEPS.map(
                (s) => `{ let query = left[(row + ${s}u) * ${PITCH}u + j];
                score_${s} += vec4f(${STEPS.map((c) => `dot(query, key_${c})`).join(", ")}); }`,
              ).join("\n")}
            }
            workgroupBarrier();
          }

          let key = vec4u(begin + column * 4u) + vec4u(0u, 1u, 2u, 3u);
          var scores = array<vec4f, 4>(${STEPS.map((s) => `score_${s}`).join(", ")});
          var highest: vec4f;
          for (var s = 0u; s < 4u; s++) {
            var score = scores[s] * u.scale;
            ${rules > 0 ? "score = ruled(score, sequence, (first + row + s) / u.repeats, key);" : ""}
            score = select(vec4f(${HIDDEN}), score, (key >= ranges[s].xxxx) & (key < ranges[s].yyyy));
            highest[s] = max(max(score.x, score.y), max(score.z, score.w));
            scores[s] = score;
          }
          handed[lane] = highest;
          workgroupBarrier();
          highest = top;
          for (var i = 0u; i < 8u; i++) { highest = max(highest, handed[peers + i]); }
          let shrink = exp(top - highest);
          top = highest;
          sum *= shrink;
          for (var s = 0u; s < 4u; s++) {
            let score = scores[s];
            let p = select(vec4f(), exp(score - top[s]), ${isSeen("score")});
            sum[s] += (p.x + p.y) + (p.z + p.w);
            left[(row + s) * ${PITCH}u + column] = p;
          }
          for (var block = 0u; block < ${blocks}u; block++) {
            ${eachVector(
              KEYS,
              `let at = block * ${COLUMNS}u + j * 4u;
               var x = vec4f();
               if (at < u.values && begin + i < keys.y) {
                 x = load_v((((sequence * u.keys + begin + i) * u.groups + head) * u.values + at) / 4u);
               }
               right[i * ${PITCH}u + j] = x;`,
            )}
            workgroupBarrier();
            ${STEPS.map((s) => `var acc_${s} = acc[block * 4u + ${s}u] * shrink.${MEMBER[s]};`).join("\n")}
            for (var j = 0u; j < 8u; j++) {
              ${STEPS.map((s) => `let p_${s} = left[(row + ${s}u) * ${PITCH}u + j];`).join("\n")}
              ${isGuarded ? `let used = ${STEPS.map((s) => `(p_${s} != vec4f())`).join(" | ")};` : ""}
              ${STEPS.map((s) => {
                const value = `right[(j * 4u + ${s}u) * ${PITCH}u + column]`;
                // 0 · NaN is NaN, and what no row sees may be NaN.
                return `let value_${s} = ${isGuarded ? `select(vec4f(), ${value}, used.${MEMBER[s]})` : value};`;
              }).join("\n")}
              ${STEPS.map((s) => `acc_${s} += ${STEPS.map((c) => `p_${s}.${MEMBER[c]} * value_${c}`).join(" + ")};`).join("\n")}
            }
            ${STEPS.map((s) => `acc[block * 4u + ${s}u] = acc_${s};`).join("\n")}
            workgroupBarrier();
          }
        }

        handed[lane] = sum;
        workgroupBarrier();
        var all = vec4f();
        for (var i = 0u; i < 8u; i++) { all += handed[peers + i]; }
        let shares = select(vec4f(), 1.0 / all, all != vec4f());
        let totals = select(vec4f(${HIDDEN}), top + log(all), all != vec4f());
        for (var s = 0u; s < 4u && first + row + s < u.queries * u.repeats; s++) {
          let to = row_of(sequence, head, first + row + s);
          if (column == 0u) { store_total(to, totals[s]); }
          for (var block = 0u; block < ${blocks}u; block++) {
            let at = block * ${COLUMNS}u + column * 4u;
            if (at < u.values) { store_y((to * u.values + at) / 4u, acc[block * 4u + s] * shares[s]); }
          }
        }
      }`,
    grid: ({ down = 0, pairs = 0 }) => [down, pairs],
  });
}
