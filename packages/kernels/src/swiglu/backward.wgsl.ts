import { defineKernel, wgsl } from "@rot/tensor/kernel";
import { heavyElementSetting } from "../shared/defaults.ts";
import { atElements, elementGroups, elementKnobs } from "../shared/elements.wgsl.ts";
import { family } from "../shared/family.ts";
import { vectors } from "../shared/rows.wgsl.ts";

/** With s = 1 / (1 + e^−gate): dgate = dy · up · s · (1 + gate · (1 − s)), and dup = dy · gate · s. */
export const swigluBackward = family((wide) =>
  defineKernel({
    name: "swiglu.backward",
    inputs: ["gate", "up", "dy"],
    outputs: ["dgate", "dup"],
    uniforms: { n: "u32" },
    knobs: elementKnobs,
    prefers: heavyElementSetting,
    forms: () => (wide ? { gate: "vec4", up: "vec4", dy: "vec4", dgate: "vec4", dup: "vec4" } : {}),

    source: (bindings, setting) => wgsl`
      ${bindings}
      ${vectors(wide)}
      ${atElements(
        setting,
        `
      let gate = load_gate(i);
      let dy = load_dy(i);
      let s = V(1.0) / (V(1.0) + exp(-gate));
      store_dgate(i, dy * load_up(i) * s * (V(1.0) + gate * (V(1.0) - s)));
      store_dup(i, dy * gate * s);`,
      )}`,

    grid: ({ n }, setting) => elementGroups(n, setting),
  }),
);
