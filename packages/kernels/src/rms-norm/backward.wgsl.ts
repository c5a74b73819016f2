import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { columnSums } from "../shared/column-sums.wgsl.ts";
import { rowSetting } from "../shared/defaults.ts";
import { family } from "../shared/family.ts";
import { enableSubgroups, openRow, rowGroups, rowKnobs, rowNeeds, rowSum, vectors } from "../shared/rows.wgsl.ts";

/** dx = scale · (g − x̂ · mean(g·x̂)), with g = dy·weight, x̂ = x·scale and scale = 1 / √(mean(x²) + eps), one for each row. */
export const rmsNormBackward = family((wide) =>
  defineKernel({
    name: "rmsNorm.backward",
    inputs: ["x", "weight", "dy"],
    outputs: ["dx", "scale"],
    uniforms: { rows: "u32", width: "u32", eps: "f32" },
    knobs: rowKnobs,
    needs: rowNeeds,
    prefers: (device, { rows, width }) => rowSetting(device, rows, wide ? width / 4 : width),
    forms: () => (wide ? { x: "vec4", weight: "vec4", dy: "vec4", dx: "vec4" } : {}),

    source: (bindings, setting, device) => wgsl`
      ${enableSubgroups(setting)}
      ${bindings}
      ${vectors(wide)}
      ${rowSum("row_sum", "vec2f", setting, device)}
      ${openRow(setting)}
        let steps = u.width / ${wide ? 4 : 1}u;
        let start = row * steps;

        var squares = V();
        var slopes = V();
        for (var i = own; i < steps; i += ${setting.lanes}u) {
          let x = load_x(start + i);
          squares += x * x;
          slopes += load_dy(start + i) * load_weight(i) * x;
        }
        let sums = row_sum(vec2f(across(squares), across(slopes)), lane) / f32(u.width);
        let scale = inverseSqrt(sums.x + u.eps);
        let slope = sums.y * scale * scale;
        if (!live) { return; }

        for (var i = own; i < steps; i += ${setting.lanes}u) {
          store_dx(start + i, scale * (load_dy(start + i) * load_weight(i) - load_x(start + i) * slope));
        }
        if (own == 0u) { store_scale(row, scale); }
      }`,

    grid: ({ rows }, setting) => rowGroups(rows, setting),
  }),
);

/** dweight = Σ dy · x · scale over the rows. */
export const rmsNormWeight = columnSums({
  name: "rmsNorm.weight",
  inputs: ["x", "dy"],
  perRow: ["scale"],
  sums: { weight: "dy * x * scale" },
});
