import { defineKernel } from "../kernel.ts";
import { tensor } from "../ops/create.ts";
import { expect, test } from "../testing.ts";
import { main, wgsl } from "../wgsl.ts";
import { philox } from "./philox.ts";
import { philoxFunctions } from "./philox.wgsl.ts";

type Words = [number, number, number, number];

/** The vectors of Random123's `kat_vectors` for philox4x32 with 10 rounds. */
const published: { counter: Words; key: [number, number]; words: Words }[] = [
  { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
];

test.for(published)("philox gives Random123's words for counter $counter", ({ counter, key, words }) => {
  expect(philox(counter, key)).toEqual(words);
});

const kernel = defineKernel({
  name: "test.philox",
  inputs: ["counters", "keys"],
  outputs: ["words"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${philoxFunctions}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let counter = vec4u(load_counters(4u * i), load_counters(4u * i + 1u), load_counters(4u * i + 2u), load_counters(4u * i + 3u));
      let made = philox(counter, vec2u(load_keys(2u * i), load_keys(2u * i + 1u)));
      for (var k = 0u; k < 4u; k++) { store_words(4u * i + k, made[k]); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

test("philox on the device equals philox on the host in 10,000 counters, word for word", async ({ device, random }) => {
  const edges = [0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffff0000, 0xffffffff];
  const word = (): number =>
    random.next() < 0.2 ? (edges[random.integer(0, edges.length)] as number) : Math.floor(random.next() * 2 ** 32);
  const known = published.map(({ counter, key }) => ({ counter, key }));
  const drawn = Array.from({ length: 10_000 - known.length }, () => ({
    counter: [word(), word(), word(), word()] as Words,
    key: [word(), word()] as [number, number],
  }));
  const all = [...known, ...drawn];
  const counters = tensor(device, Uint32Array.from(all.flatMap(({ counter }) => counter)));
  const keys = tensor(device, Uint32Array.from(all.flatMap(({ key }) => key)));
  const { words } = kernel({ counters, keys }, { words: { shape: [4 * all.length], dtype: "u32" } }, { n: all.length });
  expect(await words.read()).toEqual(Uint32Array.from(all.flatMap(({ counter, key }) => philox(counter, key))));
});
