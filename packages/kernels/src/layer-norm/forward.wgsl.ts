import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { rowSetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { enableSubgroups, openRow, rowGroups, rowKnobs, rowNeeds, rowSum, vectors } from "../shared/rows.wgsl.ts";
import { rowStatistics } from "./statistics.wgsl.ts";

/** y = (x − mean) · scale · weight + bias, with scale = 1 / √(variance + eps). */
export const layerNormForward = family((wide) =>
  defineKernel({
    name: "layerNorm.forward",
    inputs: ["x", "weight", "bias"],
    outputs: ["y"],
    uniforms: { rows: "u32", width: "u32", eps: "f32" },
    knobs: rowKnobs,
    needs: rowNeeds,
    prefers: (device, { rows, width }) => rowSetting(device, rows, wide ? width / 4 : width),
    forms: () => (wide ? { x: "vec4", weight: "vec4", bias: "vec4", y: "vec4" } : {}),

    source: (bindings, setting, device) => wgsl`
      ${enableSubgroups(setting)}
      ${bindings}
      ${vectors(wide)}
      ${rowSum("row_sum", "f32", setting, device)}
      ${openRow(setting)}
        let steps = u.width / ${wide ? 4 : 1}u;
        let start = row * steps;
        ${rowStatistics(setting.lanes)}
        if (!live) { return; }

        for (var i = own; i < steps; i += ${setting.lanes}u) {
          store_y(start + i, (load_x(start + i) - mean) * scale * load_weight(i) + load_bias(i));
        }
      }`,

    grid: ({ rows }, setting) => rowGroups(rows, setting),
  }),
);
