import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { atElements, elementGroups, elementKnobs } from "../shared/elements.wgsl.ts";
import { family } from "../shared/family.ts";
import { vectors } from "../shared/rows.wgsl.ts";

/** y[i, :] is row ids[i] of the table, or of what follows it; NaN where there is no such row. */
export const embeddingForward = family((wide) =>
  defineKernel({
    name: "embedding.forward",
    inputs: ["ids", "table", "extra"],
    outputs: ["y"],
    /** n: loads in y; width: loads in a row. */
    uniforms: { n: "u32", width: "u32", rows: "u32", extraRows: "u32" },
    knobs: elementKnobs,
    prefers: () => ({ each: 4 }),
    forms: () => (wide ? { table: "vec4", extra: "vec4", y: "vec4" } : {}),

    source: (bindings, setting) => wgsl`
      ${bindings}
      ${vectors(wide)}
      ${atElements(
        setting,
        `
      let id = u32(load_ids(i / u.width));
      let column = i % u.width;
      var value = V(bitcast<f32>(0x7fc00000u | min(u.n, 0u))); // WGSL cannot write NaN
      if (id < u.rows) {
        value = load_table(id * u.width + column);
      } else if (id - u.rows < u.extraRows) {
        value = load_extra((id - u.rows) * u.width + column);
      }
      store_y(i, value);`,
      )}`,

    grid: ({ n }, setting) => elementGroups(n, setting),
  }),
);
