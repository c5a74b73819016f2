import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import { rotarySetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { vectors } from "../shared/rows.wgsl.ts";

/**
 * Each lane turns one pair of elements, or four pairs, in several of the rows that share a row of the tables, which is
 * then loaded once. Rows that share one are `repeatStep` apart; what is left of the axes of x are [outer, inner].
 */
const uniforms = {
  /** Loads in half a row. */
  half: "u32",
  repeats: "u32",
  repeatStep: "u32",
  outer: "u32",
  inner: "u32",
  /** Rows of x, and of the tables, from one index of an axis to the next. */
  outerRow: "u32",
  innerRow: "u32",
  outerTable: "u32",
  innerTable: "u32",
} as const;

/** Rows that one lane turns. */
const knobs = { each: [4, 1, 16] } as const;

/** Makes the kernels of one direction, from what the other half of a row is multiplied by. */
const turn = (name: string, [first, second]: readonly [string, string]) =>
  family((wide) =>
    defineKernel({
      name,
      inputs: ["x", "cos", "sin"],
      outputs: ["y"],
      uniforms,
      knobs,
      prefers: rotarySetting,
      forms: () => (wide ? { x: "vec4", cos: "vec4", sin: "vec4", y: "vec4" } : {}),

      source: (bindings, { each }) => wgsl`
        ${bindings}
        ${vectors(wide)}
        ${main(64)}
          let i = group * 64u + lane;
          let pair = i % u.half;
          let outer = i / u.half / u.inner % u.outer;
          let inner = i / u.half % u.inner;
          let start = i / u.half / u.inner / u.outer * ${each}u;
          if (start >= u.repeats) { return; }
          let angle = (outer * u.outerTable + inner * u.innerTable) * 2u * u.half + pair;
          let cos_a = load_cos(angle);
          let cos_b = load_cos(angle + u.half);
          let sin_a = load_sin(angle);
          let sin_b = load_sin(angle + u.half);
          let end = min(start + ${each}u, u.repeats);
          for (var r = start; r < end; r++) {
            let a = (outer * u.outerRow + inner * u.innerRow + r * u.repeatStep) * 2u * u.half + pair;
            let b = a + u.half;
            let x_a = load_x(a);
            let x_b = load_x(b);
            store_y(a, x_a * cos_a + x_b * ${first});
            store_y(b, x_b * cos_b + x_a * ${second});
          }
        }`,

      grid: ({ half, outer, inner, repeats }, { each }) =>
        Math.ceil((half * outer * inner * Math.ceil(repeats / each)) / 64),
    }),
  );

/** With the halves a and b of a row: [a · cos − b · sin, b · cos + a · sin], each by its own half of the tables. */
export const rotaryForward = turn("rotary.forward", ["-sin_a", "sin_b"]);

/** The transpose of {@link rotaryForward}, which makes dx of dy. */
export const rotaryBackward = turn("rotary.backward", ["sin_b", "-sin_a"]);
