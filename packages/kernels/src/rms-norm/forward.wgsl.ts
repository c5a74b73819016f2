import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { rowSetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { enableSubgroups, openRow, rowGroups, rowKnobs, rowNeeds, rowSum, vectors } from "../shared/rows.wgsl.ts";

/** y = x · weight / √(mean(x²) + eps). */
export const rmsNormForward = family((wide) =>
  defineKernel({
    name: "rmsNorm.forward",
    inputs: ["x", "weight"],
    outputs: ["y"],
    uniforms: { rows: "u32", width: "u32", eps: "f32" },
    knobs: rowKnobs,
    needs: rowNeeds,
    prefers: (device, { rows, width }) => rowSetting(device, rows, wide ? width / 4 : width),
    forms: () => (wide ? { x: "vec4", weight: "vec4", y: "vec4" } : {}),

    source: (bindings, setting, device) => wgsl`
      ${enableSubgroups(setting)}
      ${bindings}
      ${vectors(wide)}
      ${rowSum("row_sum", "f32", setting, device)}
      ${openRow(setting)}
        let steps = u.width / ${wide ? 4 : 1}u;
        let start = row * steps;

        var squares = V();
        for (var i = own; i < steps; i += ${setting.lanes}u) {
          let x = load_x(start + i);
          squares += x * x;
        }
        let scale = inverseSqrt(row_sum(across(squares), lane) / f32(u.width) + u.eps);
        if (!live) { return; }

        for (var i = own; i < steps; i += ${setting.lanes}u) {
          store_y(start + i, load_x(start + i) * scale * load_weight(i));
        }
      }`,

    grid: ({ rows }, setting) => rowGroups(rows, setting),
  }),
);
