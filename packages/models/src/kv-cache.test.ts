import { type Tensor, UsageError } from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { expect, test } from "@rot/tensor/testing";
import { refusing } from "../test/tools/refuse-buffers.ts";
import { KvCache, type Span } from "./kv-cache.ts";

const pick = <T>(random: Random, values: readonly T[]): T => values[random.integer(0, values.length)] as T;

/** A span of L rows, at times none. */
function span(random: Random, L: number): Span {
  const begin = random.integer(0, L + 1);
  return [begin, random.integer(begin, L + 1)];
}

/** The first `lengths[b]` slots of each sequence, one after the other. */
async function contents(all: Tensor, lengths: readonly number[]): Promise<number[][]> {
  const { capacity, G, K } = all.dims("_ capacity G K");
  const values = await all.read();
  return lengths.map((length, b) => Array.from(values.subarray(b * capacity * G * K, (b * capacity + length) * G * K)));
}

test("after any appends and cuts it holds what arrays hold", async ({ device, random }) => {
  for (let round = 0; round < 40; round++) {
    const dtype = pick(random, ["f32", "bf16", "f16"] as const);
    const [B, heads] = [random.integer(1, 4), random.integer(1, 4)];
    const headWidth = pick(random, [2, 4, 6, 16]);
    const width = heads * headWidth;
    const block = random.integer(1, 9);
    const cache = new KvCache(device, { layers: 2, sequences: B, heads, headWidth }, { block, dtype });
    const want = Array.from({ length: B }, () => ({ keys: [] as number[], values: [] as number[] }));
    for (let step = 0; step < 4; step++) {
      const L = random.integer(1, 8);
      const valid = Array.from({ length: B }, () => span(random, L));
      // Whole numbers, which 16 bits hold too.
      const fresh = () => random.integers([B, L, heads, headWidth], -99, 99).to("f32");
      const [keys, values] = [fresh(), fresh()];
      const pass = cache.begin(L, valid);
      pass.append(0, { keys: values, values: keys });
      const all = pass.append(1, { keys, values });
      const [ranges, k, v] = [await pass.visible.read(), await keys.read(), await values.read()];
      for (const [b, [begin, end]] of valid.entries()) {
        const row = want[b] as (typeof want)[number];
        const past = row.keys.length / width;
        for (let l = 0; l < L; l++) {
          const at = b * L + l;
          const isToken = l >= begin && l < end;
          expect(Array.from(ranges.subarray(2 * at, 2 * at + 2))).toEqual([0, isToken ? past + l - begin + 1 : 0]);
          expect(pass.positions[at]).toBe(isToken ? past + l - begin : 0);
        }
        row.keys.push(...k.subarray((b * L + begin) * width, (b * L + end) * width));
        row.values.push(...v.subarray((b * L + begin) * width, (b * L + end) * width));
      }
      pass.commit();
      expect(await contents(all.keys, cache.lengths), `round ${round}, step ${step}`).toEqual(
        want.map((row) => row.keys),
      );
      expect(await contents(all.values, cache.lengths)).toEqual(want.map((row) => row.values));
      if (step % 2 === 1) {
        cache.truncate(cache.lengths.map((length) => random.integer(0, length + 1)));
        for (const [b, row] of want.entries()) {
          row.keys.length = row.values.length = (cache.lengths[b] as number) * width;
        }
      }
    }
    cache.dispose();
  }
});

test("tokens count on from the highest position given", ({ device, random }) => {
  const cache = new KvCache(device, { layers: 1, sequences: 2, heads: 1, headWidth: 2 });
  // Time, height and width of two sequences of three rows; the last row of the second is padding.
  const positions = Int32Array.from([0, 1, 1, 0, 1, 9, 0, 1, 4, 0, 1, 9, 0, 2, 1, 0, 2, 9]);
  cache
    .begin(3, [
      [0, 3],
      [0, 2],
    ])
    .commit(positions);
  expect(Array.from(cache.begin(2).positions)).toEqual([5, 6, 3, 4]);
  cache.truncate([3, 1]);
  expect(Array.from(cache.begin(1).positions)).toEqual([5, 2]);
  cache.truncate(0);
  expect(Array.from(cache.begin(1).positions)).toEqual([0, 0]);
  expect(() =>
    cache.begin(1).append(1, { keys: random.normal([2, 1, 1, 2]), values: random.normal([2, 1, 1, 2]) }),
  ).toThrow("there is no layer 1 of 1");
  cache.dispose();
});

test("it grows by blocks, up to the limit and no further", ({ device }) => {
  const cache = new KvCache(device, { layers: 1, sequences: 1, heads: 1, headWidth: 2 }, { block: 8, limit: 21 });
  const sizes: number[] = [];
  for (let token = 0; token < 21; token++) {
    cache.begin(1).commit();
    sizes.push(cache.capacity);
  }
  expect(new Set(sizes)).toEqual(new Set([8, 16, 21]));
  expect(() => cache.begin(1)).toThrow(UsageError);
  cache.dispose();
  expect(cache.bytes).toBe(0);
});

test("where memory ends on the way, nothing is left behind and nothing is lost", async ({ ownDevice: device }) => {
  const random = new Random(device);
  const shape = { layers: 2, sequences: 2, heads: 1, headWidth: 4 };
  const { live } = device.memory();
  for (let nth = 1; nth <= 5; nth++) refusing(device, nth, () => new KvCache(device, shape, { block: 4 }));
  expect(device.memory().live).toBe(live);

  const keys = random.normal([2, 4, 1, 4]);
  const fresh = { keys, values: keys };
  for (let nth = 1; nth <= 5; nth++) {
    const cache = new KvCache(device, shape, { block: 4 });
    const first = cache.begin(4);
    for (const layer of [0, 1]) first.append(layer, fresh);
    first.commit();
    refusing(device, nth, () => cache.begin(4));
    const second = cache.begin(4);
    for (const layer of [0, 1]) {
      const all = second.append(layer, fresh);
      const [a = [], b = []] = await contents(all.keys, [8, 8]);
      const values = Array.from(await keys.read());
      expect([...a, ...b]).toEqual([0, 0, 16, 16].flatMap((at) => values.slice(at, at + 16)));
    }
    cache.dispose();
  }
});

test.for([{ block: 0 }, { block: Infinity }, { capacity: Infinity }, { capacity: 1.5 }, { limit: Number.NaN }])(
  "the option %o is refused",
  (options, { device }) => {
    const shape = { layers: 1, sequences: 1, heads: 1, headWidth: 2 };
    expect(() => new KvCache(device, shape, options)).toThrow(UsageError);
  },
);

test("tokens that end inside a word are refused", ({ device }) => {
  const shape = { layers: 1, sequences: 1, heads: 1, headWidth: 3 };
  expect(() => new KvCache(device, shape, { dtype: "bf16" })).toThrow("1 · 3 elements in bf16 is no whole words");
  new KvCache(device, shape).dispose();
});
