import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { columnSums } from "../shared/column-sums.wgsl.ts";
import { rowSetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { enableSubgroups, openRow, rowGroups, rowKnobs, rowNeeds, rowSum, vectors } from "../shared/rows.wgsl.ts";
import { rowStatistics } from "./statistics.wgsl.ts";

/** dx = scale · (g − mean(g) − x̂ · mean(g·x̂)), with g = dy·weight and x̂ = (x − mean)·scale; also `mean` and `scale` of each row. */
export const layerNormBackward = family((wide) =>
  defineKernel({
    name: "layerNorm.backward",
    inputs: ["x", "weight", "dy"],
    outputs: ["dx", "mean", "scale"],
    uniforms: { rows: "u32", width: "u32", eps: "f32" },
    knobs: rowKnobs,
    needs: rowNeeds,
    prefers: (device, { rows, width }) => rowSetting(device, rows, wide ? width / 4 : width),
    forms: () => (wide ? { x: "vec4", weight: "vec4", dy: "vec4", dx: "vec4" } : {}),

    source: (bindings, setting, device) => wgsl`
      ${enableSubgroups(setting)}
      ${bindings}
      ${vectors(wide)}
      ${rowSum("row_sum", "f32", setting, device)}
      ${rowSum("row_sums", "vec2f", setting, device)}
      ${openRow(setting)}
        let steps = u.width / ${wide ? 4 : 1}u;
        let start = row * steps;
        ${rowStatistics(setting.lanes)}

        var gains = V();
        var slopes = V();
        for (var i = own; i < steps; i += ${setting.lanes}u) {
          let g = load_dy(start + i) * load_weight(i);
          gains += g;
          slopes += g * (load_x(start + i) - mean);
        }
        let means_of_g = row_sums(vec2f(across(gains), across(slopes)), lane) / count;
        let slope = means_of_g.y * scale * scale;
        if (!live) { return; }

        for (var i = own; i < steps; i += ${setting.lanes}u) {
          let g = load_dy(start + i) * load_weight(i);
          store_dx(start + i, scale * (g - means_of_g.x - (load_x(start + i) - mean) * slope));
        }
        if (own == 0u) {
          store_mean(row, mean);
          store_scale(row, scale);
        }
      }`,

    grid: ({ rows }, setting) => rowGroups(rows, setting),
  }),
);

/** dweight = Σ dy · (x − mean) · scale and dbias = Σ dy over the rows. */
export const layerNormGains = columnSums({
  name: "layerNorm.gains",
  inputs: ["x", "dy"],
  perRow: ["mean", "scale"],
  sums: { weight: "dy * (x - mean) * scale", bias: "dy" },
});
