/** The kernels of top-k: which elements of a line are among the k largest, and in which order they stand. */
import { defineKernel } from "../kernel.ts";
import { main, wgsl } from "../wgsl.ts";
import { orderHelper } from "./special.wgsl.ts";

/** Lanes that search one line, one for each value of a byte. */
const LANES = 256;
const types = ["f32", "i32", "u32"] as const;

/** An element as two words to be compared in turn: its value, and of equals the one that comes first is the larger. */
const rank = (type: (typeof types)[number]): string => `
  ${orderHelper(type, 1)}
  fn rank_of(line: u32, k: u32) -> vec2u {
    return vec2u(order(load_x((line / u.inner * u.width + k) * u.inner + line % u.inner)), ~k);
  }
  fn above(a: vec2u, b: vec2u) -> bool { return a.x > b.x || (a.x == b.x && a.y > b.y); }`;

/**
 * The indices of the k largest of each line, in no order: [lines, k].
 *
 * A radix select, one workgroup a line. The k-th largest is found byte by byte from the top: count the elements that
 * agree with it so far by their next byte, and walk down from the greatest byte. As soon as a byte's elements are all
 * wanted, the rest need not be told apart.
 */
export const selectLargest = defineKernel({
  name: "topk.select",
  inputs: ["x"],
  outputs: ["chosen"],
  uniforms: { width: "u32", inner: "u32", lines: "u32", k: "u32" },
  knobs: { type: types },
  source: (bindings, { type }) => wgsl`
    ${bindings}
    ${rank(type)}
    struct Search { mask: vec2u, prefix: vec2u, wanted: u32, done: u32 }
    var<workgroup> counts: array<atomic<u32>, ${LANES}>;
    var<workgroup> sums: array<u32, 16>;
    var<workgroup> search: Search;
    var<workgroup> filled: atomic<u32>;
    ${main(LANES)}
      if (group >= u.lines) { return; }
      if (lane == 0u) { search = Search(vec2u(0u), vec2u(0u), u.k, 0u); }
      var known = workgroupUniformLoad(&search);
      for (var byte = 0u; byte < 8u && known.done == 0u; byte++) {
        let word = byte / 4u;
        let shift = 24u - byte % 4u * 8u;
        atomicStore(&counts[lane], 0u);
        workgroupBarrier();
        for (var k = lane; k < u.width; k += ${LANES}u) {
          let rank = rank_of(group, k);
          if (all((rank & known.mask) == known.prefix)) { atomicAdd(&counts[(rank[word] >> shift) & 255u], 1u); }
        }
        workgroupBarrier();
        if (lane < 16u) {
          var sum = 0u;
          for (var i = 0u; i < 16u; i++) { sum += atomicLoad(&counts[lane * 16u + i]); }
          sums[lane] = sum;
        }
        workgroupBarrier();
        if (lane == 0u) {
          var wanted = known.wanted;
          var block = 15u;
          for (; sums[block] < wanted; block--) { wanted -= sums[block]; }
          var value = block * 16u + 15u;
          for (; atomicLoad(&counts[value]) < wanted; value--) { wanted -= atomicLoad(&counts[value]); }
          search.mask[word] |= 255u << shift;
          search.prefix[word] |= value << shift;
          search.wanted = wanted;
          search.done = select(0u, 1u, atomicLoad(&counts[value]) == wanted);
        }
        known = workgroupUniformLoad(&search);
      }
      for (var k = lane; k < u.width; k += ${LANES}u) {
        if (!above(known.prefix, rank_of(group, k) & known.mask)) {
          store_chosen(group * u.k + atomicAdd(&filled, 1u), k);
        }
      }
    }`,
  grid: ({ lines }) => lines,
});

/**
 * The indices [outer, k, inner] in descending order of their elements: each candidate counts those above it.
 *
 * @param chosen  [lines, count] of {@link selectLargest}; not read with `all`, where every element is a candidate
 */
export const orderChosen = defineKernel({
  name: "topk.order",
  inputs: ["x", "chosen"],
  outputs: ["y"],
  uniforms: { width: "u32", inner: "u32", lines: "u32", k: "u32", count: "u32" },
  knobs: { type: types, all: [false, true] },
  source: (bindings, { type, all }) => wgsl`
    ${bindings}
    ${rank(type)}
    fn candidate(line: u32, i: u32) -> vec2u {
    #if ${all}
      return rank_of(line, i);
    #else
      return rank_of(line, load_chosen(line * u.count + i));
    #endif
    }
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.lines * u.count) { return; }
      let line = i / u.count;
      let own = candidate(line, i % u.count);
      var place = 0u;
      for (var other = 0u; other < u.count; other++) {
        if (above(candidate(line, other), own)) { place++; }
      }
      if (place < u.k) { store_y((line / u.inner * u.k + place) * u.inner + line % u.inner, i32(~own.y)); }
    }`,
  grid: ({ lines, count }) => Math.ceil((lines * count) / 64),
});

/** The elements [outer, k, inner] of `x` at the indices. */
export const take = defineKernel({
  name: "topk.take",
  inputs: ["x", "indices"],
  outputs: ["y"],
  uniforms: { width: "u32", inner: "u32", k: "u32", n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let outer = i / u.inner / u.k;
      store_y(i, load_x((outer * u.width + u32(load_indices(i))) * u.inner + i % u.inner));
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/** Puts the elements of `dy` where {@link take} took them from, in an f32 tensor of zeros. */
export const put = defineKernel({
  name: "topk.put",
  inputs: ["dy", "indices"],
  outputs: [],
  updates: ["dx"],
  uniforms: { width: "u32", inner: "u32", k: "u32", n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let outer = i / u.inner / u.k;
      store_dx((outer * u.width + u32(load_indices(i))) * u.inner + i % u.inner, load_dy(i));
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});
