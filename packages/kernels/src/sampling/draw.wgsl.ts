/** One token drawn from each row of logits, a workgroup to a row, without sorting it. */
import { defineKernel, main, philoxFunctions, wgsl } from "@rot/tensor/kernel";

/** Bits of a threshold that one pass finds. More take fewer passes, but long to compile on software adapters. */
const DIGIT = 2;

/** Logits as words of the same order: 0 and −0 alike, −∞ the least number, +∞ the greatest, NaN above it. */
const order = `
  const least = 0x00800000u;
  const greatest = 0xff800000u;
  fn order(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    return select(bits | 0x80000000u, 0x80000000u - (bits & 0x7fffffffu), bits >= 0x80000000u);
  }
  fn from_order(word: u32) -> f32 {
    return bitcast<f32>(select((0x80000000u - word) | 0x80000000u, word & 0x7fffffffu, word >= 0x80000000u));
  }`;

/** `fold(lane)`: adds up each column of `sums` over the lanes, always in the same order; afterwards it is in lane 0's. */
const fold = (lanes: number, columns: number): string => `
  var<workgroup> sums: array<array<f32, ${columns}>, ${lanes}>;
  fn fold(lane: u32) {
    for (var half = ${lanes / 2}u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        for (var j = 0u; j < ${columns}u; j++) { sums[lane][j] += sums[lane + half][j]; }
      }
    }
    workgroupBarrier();
  }`;

/**
 * `NAME(base, lane, limit) -> u32`: the least word t such that what elements with `key > t` weigh is less than the limit.
 * It is found digit by digit, from the highest: each pass weighs what lies at or above every next digit.
 *
 * @param key     word of the element `at`
 * @param weight  what the element `at` weighs
 */
function search(name: string, lanes: number, key: string, weight: string): string {
  const cuts = Array.from({ length: 2 ** DIGIT - 1 }, (_, j) => j);
  return `
  fn ${name}(base: u32, lane: u32, limit: f32) -> u32 {
    var low = 0u;
    for (var shift = 32u; shift > 0u;) {
      shift -= ${DIGIT}u;
      ${cuts.map((j) => `var total${j} = 0.0; let cut${j} = low + (${j + 1}u << shift);`).join(" ")}
      for (var i = lane; i < u.width; i += ${lanes}u) {
        let at = base + i;
        let key = ${key};
        let weight = ${weight};
        ${cuts.map((j) => `total${j} += select(0.0, weight, key >= cut${j});`).join(" ")}
      }
      ${cuts.map((j) => `sums[lane][${j}] = total${j};`).join(" ")}
      fold(lane);
      var next = 0u;
      for (var j = 0u; j < ${cuts.length}u; j++) { next += select(0u, 1u, sums[0][j] >= limit); }
      low += next << shift;
      workgroupBarrier();
    }
    return low;
  }`;
}

/**
 * The token of each row, -1 where the row is no distribution: it holds NaN or +∞, or nothing above −∞.
 *
 * `k` tokens of the largest logits may be drawn, 0 for all of them, and of these those whose betters weigh less than the
 * share `p`, 1 for all. `weights` becomes exp((logit − the largest) / temperature) of the first kind, 0 elsewhere.
 */
export const drawTokens = defineKernel({
  name: "sample.draw",
  inputs: ["logits", "samples"],
  outputs: ["weights", "token"],
  uniforms: {
    rows: "u32",
    width: "u32",
    k: "u32",
    p: "f32",
    temperature: "f32",
    key0: "u32",
    key1: "u32",
    step: "u32",
  },
  knobs: { lanes: [256, 64] },
  prefers: ({ kind }) => (kind === "hardware" ? {} : { lanes: 64 }),
  shapeClass: ({ rows, width, k }) => `${Math.clz32(rows)} ${Math.clz32(width)} ${k > 0}`, // the rest is a draw's key

  source: (bindings, { lanes }) => wgsl`
    ${bindings}
    ${philoxFunctions}
    ${order}
    ${fold(lanes, 2 ** DIGIT - 1)}
    ${search("least_of_largest", lanes, "order(load_logits(at))", "1.0")}
    ${search("least_of_likeliest", lanes, "bitcast<u32>(load_weights(at))", "load_weights(at)")}
    var<workgroup> largest: atomic<u32>;
    ${main(lanes)}
      let row = group;
      if (row >= u.rows) { return; }
      let base = row * u.width;

      for (var i = lane; i < u.width; i += ${lanes}u) { atomicMax(&largest, order(load_logits(base + i))); }
      workgroupBarrier();
      let most = atomicLoad(&largest);
      let top = from_order(most);

      var floor = 0u;
      if (u.k > 0u) { floor = least_of_largest(base, lane, f32(u.k)); }

      var total = 0.0;
      for (var i = lane; i < u.width; i += ${lanes}u) {
        let x = load_logits(base + i);
        let power = (x - top) / u.temperature;
        // Below e⁻⁸⁷ a float is no longer normal, and what exp gives there differs between adapters.
        let weight = select(0.0, exp(max(power, -87.0)), power > -87.0 && order(x) >= floor);
        store_weights(base + i, weight);
        total += weight;
      }
      sums[lane][0] = total;
      fold(lane);

      var likely = 0u;
      if (u.p < 1.0) {
        // The likeliest token is kept even where p is 0.
        let share = max(u.p * sums[0][0], 1e-30);
        workgroupBarrier();
        likely = least_of_likeliest(base, lane, share);
      }
      workgroupBarrier();
      storageBarrier();

      // The first token at which the running sum exceeds a random share of the whole sum: the stretch that holds it is cut
      // into one piece for each lane, until a piece is one token.
      let words = philox(vec4u(0u, u32(load_samples(row)), u.step, 0u), vec2u(u.key0, u.key1));
      var wanted = -1.0;
      var first = 0u;
      var end = u.width;
      for (var span = u.width; ;) {
        let piece = (span + ${lanes - 1}u) / ${lanes}u;
        var sum = 0.0;
        let begin = first + lane * piece;
        for (var i = begin; i < min(begin + piece, end); i++) {
          let weight = load_weights(base + i);
          sum += select(0.0, weight, bitcast<u32>(weight) >= likely);
        }
        sums[lane][0] = sum;
        workgroupBarrier();
        if (wanted < 0.0) {
          var whole = 0.0;
          for (var other = 0u; other < ${lanes}u; other++) { whole += sums[other][0]; }
          wanted = f32(words.x >> 8u) * 0x1p-24 * whole;
        }
        var running = 0.0;
        var before = 0.0;
        var chosen = 0u;
        for (var other = 0u; other < ${lanes}u; other++) {
          let own = sums[other][0];
          // Rounding may leave the sum of the pieces below the target: then it is the last that has any weight.
          if (own > 0.0 && running <= wanted) {
            chosen = other;
            before = running;
          }
          running += own;
        }
        wanted -= before;
        first += chosen * piece;
        end = min(first + piece, end);
        workgroupBarrier();
        span = piece;
        if (span == 1u) { break; }
      }
      if (lane == 0u) { store_token(row, select(-1, i32(first), most > least && most < greatest)); }
    }`,

  grid: ({ rows }) => rows,
});
