/** The plainest kernels that give the same: what every tuned one must beat. */
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";

/** One output an invocation, one element at a time. */
export const naiveMatmul = defineKernel({
  name: "naive.matmul",
  inputs: ["a", "b"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n * u.n) { return; }
      var total = 0.0;
      for (var k = 0u; k < u.n; k++) { total += load_a(i / u.n * u.n + k) * load_b(k * u.n + i % u.n); }
      store_y(i, total);
    }`,
  grid: ({ n }) => Math.ceil((n * n) / 64),
});

/** One element an invocation. */
export const naiveAdd = defineKernel({
  name: "naive.add",
  inputs: ["a", "b"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_y(i, load_a(i) + load_b(i)); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});
