import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { rowBlock, rowSetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { enableSubgroups, openRow, rowGroups, rowKnobs, rowNeeds, rowSum, vectors } from "../shared/rows.wgsl.ts";

/** Some lanes take a row, or `each` rows that share every load of the weight. */
const knobs = { ...rowKnobs, each: [1, 4] } as const;

/** y = x · weight / √(mean(x²) + eps). */
export const rmsNormForward = family((wide) =>
  defineKernel({
    name: "rmsNorm.forward",
    inputs: ["x", "weight"],
    outputs: ["y"],
    uniforms: { rows: "u32", width: "u32", eps: "f32" },
    knobs,
    needs: rowNeeds,
    prefers: (device, { rows, width }) => ({
      ...rowSetting(device, rows, wide ? width / 4 : width),
      each: rowBlock(device, rows),
    }),
    forms: () => (wide ? { x: "vec4", weight: "vec4", y: "vec4" } : {}),

    source(bindings, setting, device) {
      const { lanes, each } = setting;
      const eachRow = (line: (r: number) => string): string =>
        Array.from({ length: each }, (_, r) => line(r)).join("\n");
      return wgsl`
        ${enableSubgroups(setting)}
        ${bindings}
        ${vectors(wide)}
        ${rowSum("row_sum", "f32", setting, device)}
        ${openRow(setting, `(u.rows + ${each - 1}u) / ${each}u`)}
          let steps = u.width / ${wide ? 4 : 1}u;
          // Where the last block has rows to spare, they are the last one once more.
          ${eachRow((r) => `let start_${r} = min(row * ${each}u + ${r}u, u.rows - 1u) * steps;`)}

          ${eachRow((r) => `var squares_${r} = V();`)}
          for (var i = own; i < steps; i += ${lanes}u) {
            ${eachRow((r) => `let x_${r} = load_x(start_${r} + i);`)}
            ${eachRow((r) => `squares_${r} += x_${r} * x_${r};`)}
          }
          ${eachRow((r) => `let scale_${r} = inverseSqrt(row_sum(across(squares_${r}), lane) / f32(u.width) + u.eps);`)}
          if (!live) { return; }

          for (var i = own; i < steps; i += ${lanes}u) {
            let weight = load_weight(i);
            ${eachRow((r) => `let x_${r} = load_x(start_${r} + i);`)}
            ${eachRow((r) => `store_y(start_${r} + i, x_${r} * scale_${r} * weight);`)}
          }
        }`;
    },

    grid: ({ rows }, setting) => rowGroups(Math.ceil(rows / setting.each), setting),
  }),
);
