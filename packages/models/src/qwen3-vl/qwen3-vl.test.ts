import { linearCrossEntropy } from "@rot/kernels";
import {
  type Device,
  grad,
  openDevice,
  requireGrad,
  scope,
  ShapeError,
  tensor,
  type Tensor,
  untaped,
  UsageError,
} from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { expect, relativeError, test } from "@rot/tensor/testing";
import { PATCH, tinyConfig, tinyModel } from "../../test/tools/tiny-qwen3-vl.ts";
import { KvCache, type Span } from "../kv-cache.ts";
import { logitsOf } from "../layers.ts";
import type { Grid, VisionLanguageModel } from "../vision-language-model.ts";

/** An image between words, and after them. */
const grids: Grid[] = [
  [1, 2, 4],
  [1, 4, 4],
];
const I = tinyConfig.image_token_id;
const withImages = [3, 14, I, I, 15, 92, I, I, I, I, 65, 35];

/** Embeddings and images of a batch, and where they stand. */
function prepare(model: VisionLanguageModel, random: Random, ids: number[][], of: Grid[], valid?: Span[]) {
  const layout = model.layOut(ids, of, valid);
  const patches = of.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
  const options = {
    positions: layout.positions,
    ...(valid && { valid }),
    ...(patches > 0 && {
      images: { ...model.imageFeatures(random.normal([patches, PATCH]), of), rows: layout.imageRows },
    }),
  };
  return { embeddings: model.embed(ids), options };
}

test("hidden states through the cache are those without it, however the tokens are cut", async ({ random }) => {
  const { model } = tinyModel(random);
  const { embeddings, options } = prepare(model, random, [withImages], grids);
  const words = [7, 8, 9, 10, 11];
  const tail = model.embed([words]);
  // Words after an image count on from its longest side: two images of sides 2 have saved 2 + 4 − 2 − 2 positions.
  const ids = [[...withImages, ...words]];
  const { positions } = model.layOut(ids, grids);
  const all = model.embed(ids);
  const want = untaped(() => model.forward(all, { ...options, positions }));

  const cache = model.newCache(1, { block: 4 });
  const got = untaped(() => [
    model.forward(embeddings, { ...options, cache }),
    model.forward(tail.slice(null, [0, 3]), { cache }),
    model.forward(tail.slice(null, [3, 4]), { cache }),
    model.forward(tail.slice(null, [4, 5]), { cache }),
  ]);
  let begin = 0;
  for (const part of got) {
    const end = begin + (part.shape[1] as number);
    expect(await relativeError(part, want.slice(null, [begin, end])), `tokens ${begin} to ${end}`).toBeLessThan(1e-5);
    begin = end;
  }
  expect(cache.lengths).toEqual([17]);
  cache.dispose();
});

/** Three sequences of unequal length in rows of 7, and where each begins. */
const ragged = [
  [5, 6, 7, 8, 9, 10, 11],
  [12, 13, 14],
  [15, 16, 17, 18, 19],
];
const padTo = (L: number, left: boolean) =>
  ragged.map((ids) =>
    left ? [...Array<number>(L - ids.length).fill(0), ...ids] : [...ids, ...Array<number>(L - ids.length).fill(0)],
  );
const spans = (L: number, left: boolean): Span[] => ragged.map(({ length }) => (left ? [L - length, L] : [0, length]));

test.for([
  { side: "left", cached: true },
  { side: "left", cached: false },
  { side: "right", cached: true },
  { side: "right", cached: false },
])(
  "a batch padded on the $side gives what each sequence gives alone, cached: $cached",
  async ({ side, cached }, { random }) => {
    const left = side === "left";
    const { model } = tinyModel(random);
    const valid = spans(7, left);
    const cache = cached ? model.newCache(3, { block: 2 }) : null;
    const hidden = untaped(() => model.forward(model.embed(padTo(7, left)), { valid, ...(cache && { cache }) }));
    const more = [[21], [22], [23]];
    const next = cache && untaped(() => model.forward(model.embed(more), { cache }));
    for (const [b, ids] of ragged.entries()) {
      const [begin, end] = valid[b] as Span;
      const alone = untaped(() => model.forward(model.embed([[...ids, ...(more[b] as number[])]])));
      const got = hidden.slice([b, b + 1], [begin, end]);
      expect(await relativeError(got, alone.slice(null, [0, -1])), `sequence ${b}`).toBeLessThan(1e-5);
      if (next) {
        const error = await relativeError(next.slice([b, b + 1]), alone.slice(null, [-1]));
        expect(error, `the next token of sequence ${b}`).toBeLessThan(1e-5);
      }
    }
    cache?.dispose();
  },
);

test("a sequence rests while others go on, and latents go in as embeddings", async ({ random }) => {
  const { model } = tinyModel(random);
  const latents = random.normal([2, 3, model.width]);
  const cache = model.newCache(2);
  const steps = untaped(() => {
    model.forward(
      model.embed([
        [5, 6],
        [7, 8],
      ]),
      { cache },
    );
    model.forward(latents.slice(null, [0, 1]), { cache });
    model.forward(latents.slice(null, [1, 2]), {
      cache,
      valid: [
        [0, 1],
        [0, 0],
      ],
    });
    return model.forward(latents.slice(null, [2, 3]), { cache });
  });
  expect(cache.lengths).toEqual([5, 4]);
  const first = untaped(() => model.forward(model.embed([[5, 6, 0, 0, 0]]).slice(null, [0, 2])).shape);
  expect(first).toEqual([1, 2, model.width]);
  for (const [b, taken] of [
    [0, 1, 2],
    [0, 2],
  ].entries()) {
    const alone = model.newCache(1);
    let last = untaped(() => model.forward(model.embed([b === 0 ? [5, 6] : [7, 8]]), { cache: alone }));
    for (const t of taken) last = untaped(() => model.forward(latents.slice([b, b + 1], [t, t + 1]), { cache: alone }));
    expect(await relativeError(steps.slice([b, b + 1]), last), `sequence ${b}`).toBeLessThan(1e-5);
    alone.dispose();
  }
  cache.dispose();
});

test("a cache cut short goes on as if the rest had never been", async ({ random }) => {
  const { model } = tinyModel(random);
  const { embeddings, options } = prepare(model, random, [withImages], grids);
  const cache = model.newCache(1, { block: 4 });
  const next = model.embed([[33]]);
  const want = untaped(() => {
    model.forward(embeddings, { ...options, cache });
    return model.forward(next, { cache });
  });
  const got = untaped(() => {
    cache.truncate(withImages.length);
    model.forward(random.normal([1, 9, model.width]), { cache });
    cache.truncate([withImages.length]);
    return model.forward(next, { cache });
  });
  expect(await relativeError(got, want)).toBeLessThan(1e-6);
  expect(() => cache.truncate(99)).toThrow(UsageError);
  expect(() => cache.truncate([])).toThrow(UsageError);
  cache.truncate(0);
  const fresh = untaped(() => model.forward(next, { cache }));
  expect(
    await relativeError(
      fresh,
      untaped(() => model.forward(next)),
    ),
  ).toBeLessThan(1e-6);
  cache.dispose();
});

test("a cache of 16 bits is half as large and nearly as good", async ({ random }) => {
  const { model } = tinyModel(random);
  const ids = [[1, 2, 3, 4, 5, 6]];
  const wide = model.newCache(1);
  const narrow = model.newCache(1, { dtype: "bf16" });
  expect(narrow.bytes).toBe(wide.bytes / 2);
  const [want, got] = [wide, narrow].map((cache) => untaped(() => model.forward(model.embed(ids), { cache }))) as [
    Tensor,
    Tensor,
  ];
  expect(await relativeError(got, want)).toBeLessThan(0.03);
  wide.dispose();
  narrow.dispose();
});

test("GPU bytes stay flat over many tokens, and are all given back", async ({ ownDevice: device }) => {
  const random = new Random(device);
  const { model } = tinyModel(random);
  const { embeddings, options } = prepare(model, random, [withImages], grids);
  const before = device.memory().live;
  const cache = model.newCache(1, { block: 32 });
  const held = device.memory().live - before;
  expect(held).toBe(cache.bytes);
  const step = (): void => {
    scope(() => untaped(() => void model.forward(embeddings.slice(null, [0, 1]), { cache })));
  };
  scope(() => untaped(() => void model.forward(embeddings, { ...options, cache })));
  for (let i = 0; i < 12; i++) step();
  await device.sync();
  expect(device.memory().live - before).toBe(held);
  for (let i = 0; i < 12; i++) step();
  expect(cache.capacity).toBeGreaterThan(32);
  expect(device.memory().live - before).toBe(cache.bytes);
  cache.dispose();
  cache.dispose();
  expect(device.memory().live).toBe(before);
  scope(() => untaped(() => void model.forward(embeddings, options))); // holds the model until here
});

test("a cache refuses what does not fit it", ({ random }) => {
  const { model } = tinyModel(random);
  const cache = model.newCache(2, { limit: 4 });
  const x = random.normal([2, 3, model.width]);
  model.forward(x, { cache });
  expect(() => model.forward(x, { cache })).toThrow("a sequence of 6 tokens is longer than the limit of 4");
  expect(cache.lengths, "nothing has happened").toEqual([3, 3]);
  expect(() => model.forward(random.normal([1, 1, model.width]), { cache })).toThrow("the cache is of 2 sequences");
  const learned = requireGrad(random.normal([2, 1, model.width]));
  expect(() => model.forward(learned, { cache })).toThrow("no gradient flows through it");
  cache.dispose();
  expect(() => model.forward(x, { cache })).toThrow("it was disposed");
  expect(() => model.newCache(0)).toThrow(UsageError);
  expect(() => model.newCache(1, { block: 0 })).toThrow("block is 0");
  expect(model.newCache(1, { block: 1 }).limit, "the model's longest context").toBe(128);
  expect(
    () => new KvCache(model.device, { layers: 1, sequences: 1, heads: 1, headWidth: 2 }, { capacity: 0.5 }),
  ).toThrow(UsageError);
});

test("images packed in one call are those of each alone", async ({ random }) => {
  const { model } = tinyModel(random);
  const pixels = random.normal([24, PATCH]);
  const packed = model.imageFeatures(pixels, grids);
  let [patch, token] = [0, 0];
  for (const grid of grids) {
    const patches = grid[1] * grid[2];
    const alone = model.imageFeatures(pixels.slice([patch, patch + patches]), [grid]);
    const tokens: [number, number] = [token, token + patches / 4];
    expect(await relativeError(packed.tokens.slice(tokens), alone.tokens)).toBeLessThan(1e-5);
    for (const [i, feature] of alone.deepstack.entries()) {
      expect(await relativeError((packed.deepstack[i] as Tensor).slice(tokens), feature)).toBeLessThan(1e-5);
    }
    patch += patches;
    token = tokens[1];
  }
});

test("chosen rows are those of the whole, and untouched by what is chosen", async ({ random }) => {
  const { model } = tinyModel(random);
  const x = random.normal([2, 5, model.width]);
  const rows = Int32Array.of(9, 0, 3);
  const all = model.forward(x).flatten(0, 1);
  expect(await relativeError(model.forward(x, { rows }), all.gatherRows(rows))).toBeLessThan(1e-6);
});

test("rules and visible ranges reach the attention", async ({ random }) => {
  const { model } = tinyModel(random);
  const x = random.normal([1, 4, model.width]);
  const causal = model.forward(x);
  // Query 3 alone loses key 0.
  const hidden = model.forward(x, { rules: [{ queries: [3, 4], keys: [0, 1], bias: -Infinity }] });
  expect(await relativeError(hidden.slice(null, [0, 3]), causal.slice(null, [0, 3]))).toBeLessThan(1e-6);
  expect(await relativeError(hidden.slice(null, [3]), causal.slice(null, [3]))).toBeGreaterThan(1e-3);
  // Everybody sees everybody: token 0 then depends on token 3.
  const ranges = Int32Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? 0 : 4));
  const visible = tensor(model.device, ranges, { shape: [1, 4, 2], dtype: "i32" });
  expect(
    await relativeError(model.forward(x, { visible }).slice(null, [0, 1]), causal.slice(null, [0, 1])),
  ).toBeGreaterThan(1e-3);
});

test("recomputing the blocks keeps less and gives the same gradients", async ({ random, device }) => {
  const { model, parameters } = tinyModel(random);
  for (const parameter of parameters.values()) requireGrad(parameter);
  const pixels = random.normal([24, PATCH]);
  const ids = [
    [...withImages, 0, 0],
    [...Array<number>(12).fill(0), 5, 6],
  ];
  const valid: Span[] = [
    [0, 12],
    [12, 14],
  ];
  const { positions, imageRows } = model.layOut(ids, grids, valid);
  const labels = Int32Array.from(ids.flat(), (id, row) => (row % 3 === 0 ? id : -100));
  const run = (recompute: boolean) =>
    scope(() => {
      const before = device.memory().live;
      const images = { ...model.imageFeatures(pixels, grids, { recompute }), rows: imageRows };
      const hidden = model.forward(model.embed(ids), { positions, valid, images, recompute });
      const loss = linearCrossEntropy(hidden, model.head, labels);
      const held = device.memory().live - before;
      return { held, gradients: grad(loss, [...parameters.values()]) };
    });
  const [plain, again] = [run(false), run(true)];
  expect(again.held).toBeLessThan(plain.held / 2);
  for (const [i, name] of [...parameters.keys()].entries()) {
    expect(await relativeError(again.gradients[i] as Tensor, plain.gradients[i] as Tensor), name).toBeLessThan(1e-5);
  }
});

test("a head larger than a binding gives its logits in parts, with their gradient", async ({ random }) => {
  const head = random.normal([300, 24]);
  const hidden = requireGrad(random.normal([2, 3, 24]));
  const run = (most?: number) => {
    const logits = logitsOf(hidden, head, most);
    return [logits, ...grad(logits.square().sum(), [hidden])] as [Tensor, Tensor];
  };
  const whole = run();
  for (const most of [head.bytes - 1, 130 * 96, 1]) {
    const parts = run(most);
    expect(parts[0].shape).toEqual([2, 3, 300]);
    for (const i of [0, 1] as const) expect(await relativeError(parts[i], whole[i])).toBeLessThan(1e-5);
  }
});

test("an embedding larger than a binding gives the same logits and gradients", async ({ device }) => {
  const small = await openDevice({ limits: { maxStorageBufferBindingSize: 2 ** 14 } });
  const text_config = { ...tinyConfig.text_config, vocab_size: 300 };
  const run = (on: Device): Tensor[] => {
    const { model } = tinyModel(new Random(on), { ...tinyConfig, text_config });
    expect(model.head.bytes).toBeGreaterThan(2 ** 14);
    const hidden = untaped(() => model.forward(model.embed([[299, 0, 130, 7]])));
    const logits = model.logits(hidden);
    requireGrad(model.head);
    const loss = linearCrossEntropy(model.forward(model.embed([[299, 0, 130, 7]])), model.head, [0, 299, 150, -100]);
    return [logits, ...grad(loss, [model.head])];
  };
  const [want, got] = [run(device), run(small)];
  for (const i of [0, 1]) expect(await relativeError(got[i] as Tensor, want[i] as Tensor)).toBeLessThan(1e-5);
  small.destroy();
});

test("shapes that do not fit are refused", ({ random }) => {
  const { model } = tinyModel(random);
  const { width: D } = model;
  const x = random.normal([1, 3, D]);
  const images = model.imageFeatures(random.normal([8, PATCH]), [[1, 2, 4]]);
  for (const [run, message] of [
    [() => model.embed([97]), "97 is no index"],
    [() => model.forward(random.normal([3, D])), "not [B, L, 24]"],
    [() => model.forward(random.normal([1, 3, D + 1])), "[1, 3, 25]"],
    [() => model.forward(random.normal([1, 0, D])), "[1, 0, 24]"],
    [() => model.forward(x, { positions: new Int32Array(3) }), "3 positions for [3, 1, 3]"],
    [() => model.forward(x, { valid: [] }), "0 spans for 1 sequences"],
    [() => model.forward(x, { valid: [[1, 4]] }), "rows 1 to 4, of 3"],
    [() => model.forward(x, { images: { ...images, rows: Int32Array.of(0) } }), "1 rows"],
    [() => model.forward(x, { images: { ...images, rows: Int32Array.of(0, 3) } }), "no row 3 of 3"],
    [() => model.forward(x, { images: { ...images, rows: Int32Array.of(1, 1) } }), "named twice"],
    [() => model.imageFeatures(random.normal([7, PATCH]), [[1, 2, 4]]), "take [8, 96]"],
    [() => model.imageFeatures(random.normal([8, PATCH + 1]), [[1, 2, 4]]), "take [8, 96]"],
    [() => model.imageFeatures(random.normal([0, PATCH]), []), "0 images"],
    [() => model.imageFeatures(random.normal([8, PATCH]), [[1, 1, 8]]), "multiples of 2"],
  ] as const) {
    expect(run).toThrow(ShapeError);
    expect(run).toThrow(message);
  }
});
