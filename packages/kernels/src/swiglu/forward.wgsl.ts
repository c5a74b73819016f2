import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { elementSetting } from "../shared/defaults.ts";
import { atElements, elementGroups, elementKnobs } from "../shared/elements.wgsl.ts";
import { family } from "../shared/family.ts";
import { vectors } from "../shared/rows.wgsl.ts";

/** y = silu(gate) · up, element by element. */
export const swigluForward = family((wide) =>
  defineKernel({
    name: "swiglu.forward",
    inputs: ["gate", "up"],
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: elementKnobs,
    prefers: elementSetting,
    forms: () => (wide ? { gate: "vec4", up: "vec4", y: "vec4" } : {}),

    source: (bindings, setting) => wgsl`
      ${bindings}
      ${vectors(wide)}
      ${atElements(setting, "let gate = load_gate(i); store_y(i, gate / (V(1.0) + exp(-gate)) * load_up(i));")}`,

    grid: ({ n }, setting) => elementGroups(n, setting),
  }),
);
