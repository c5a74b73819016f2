/** The kernels of gather and scatter-add. Without atomics, so that sums are always added in the same order. */
import { defineKernel } from "../kernel.ts";
import { main, wgsl } from "../wgsl.ts";

const types = ["f32", "i32", "u32"] as const;

/** y[o, c, :] = x[o, indices[o, c], :], and the bits of `outside` where x has no such row. */
export const gather = defineKernel({
  name: "gather",
  inputs: ["x", "indices"],
  outputs: ["y"],
  // x is [outer, rows, width], indices [outer, count], y [outer, count, width] with n elements.
  uniforms: { n: "u32", rows: "u32", width: "u32", count: "u32", outside: "u32" },
  knobs: { type: types },
  source: (bindings, { type }) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let position = i / u.width;
      let row = u32(load_indices(position));
      if (row >= u.rows) { store_y(i, bitcast<${type}>(u.outside)); return; }
      store_y(i, load_x((position / u.count * u.rows + row) * u.width + i % u.width));
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/**
 * Chains the positions that hold the same index: `next` is the following one, or n after the last; `follows` becomes 1
 * for all but the first of a chain, and must have been 0.
 */
export const links = defineKernel({
  name: "scatter.links",
  inputs: ["indices"],
  outputs: ["next"],
  updates: ["follows"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let index = load_indices(i);
      var j = i + 1u;
      while (j < u.n && load_indices(j) != index) { j++; }
      store_next(i, j);
      // At most one position has j for its next, so nobody else writes here.
      if (j < u.n) { store_follows(j, 1u); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/** y[index, c] = Σ source[p, c] over the chain of positions p that hold the index, in their order. */
export const scatter = defineKernel({
  name: "scatter.add",
  inputs: ["source", "indices", "next", "follows"],
  outputs: [],
  updates: ["y"],
  // source is [positions, width] with n elements, y [rows, width].
  uniforms: { n: "u32", positions: "u32", rows: "u32", width: "u32" },
  knobs: { type: types },
  source: (bindings, { type }) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let first = i / u.width;
      let column = i % u.width;
      let row = u32(load_indices(first));
      if (row >= u.rows || load_follows(first) != 0u) { return; }
      var total = ${type}(0);
      for (var p = first; p < u.positions; p = load_next(p)) { total += load_source(p * u.width + column); }
      store_y(row * u.width + column, total);
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/** y[i, indices[i]] = source[i], where y has such a column. */
export const putLast = defineKernel({
  name: "gather.putLast",
  inputs: ["source", "indices"],
  outputs: [],
  updates: ["y"],
  // y is [n, width].
  uniforms: { n: "u32", width: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let column = u32(load_indices(i));
      if (column < u.width) { store_y(i * u.width + column, load_source(i)); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});
