import { assign, key, tensor, type Tensor, untaped, UsageError, zeros } from "@rot/tensor";
import type { Random } from "@rot/tensor/cases";
import { expect, test } from "@rot/tensor/testing";
import { PATCH, type Tiny, tinyConfig, tinyModel } from "../../test/tools/tiny-qwen3-vl.ts";
import type { PixelValues } from "../image-processor/image-processor.ts";
import type { Span } from "../kv-cache.ts";
import type { Grid } from "../vision-language-model.ts";
import { ContextError } from "./error.ts";
import { collect, decode, generate, type GenerateOptions } from "./generate.ts";
import { prefill, type Prompt } from "./prefill.ts";

const imageToken = tinyConfig.image_token_id;

function pictures(random: Random, grids: readonly Grid[]): PixelValues {
  const patches = grids.reduce((sum, [frames, rows, columns]) => sum + frames * rows * columns, 0);
  return { pixelValues: random.normals(patches * PATCH), patchLength: PATCH, imageGridThw: grids };
}

/** Prompts of unequal length, with two images, none and one. */
function mixedPrompts(random: Random): Prompt[] {
  const text = (count: number): number[] => Array.from({ length: count }, () => random.integer(0, 90));
  const image = (tokens: number): number[] => Array<number>(tokens).fill(imageToken);
  return [
    {
      ids: [...text(2), ...image(2), ...text(1), ...image(1), ...text(3)],
      images: pictures(random, [
        [1, 2, 4],
        [1, 2, 2],
      ]),
    },
    { ids: text(3) },
    { ids: [...text(4), ...image(6), ...text(7)], images: pictures(random, [[1, 4, 6]]) },
  ];
}

const run = async ({ model }: Tiny, prompts: readonly Prompt[], options: GenerateOptions) =>
  collect(generate(model, prompts, options), prompts.length);
const idsOf = async (tiny: Tiny, prompts: readonly Prompt[], options: GenerateOptions) =>
  (await run(tiny, prompts, options)).map(({ ids }) => ids);

/** The likeliest tokens, without a cache: the whole sequence is read again for each. */
async function uncached({ model }: Tiny, { ids, images }: Prompt, count: number): Promise<number[]> {
  const made: number[] = [];
  const grids = images?.imageGridThw ?? [];
  const { positions, imageRows } = model.layOut([ids], grids);
  const next = Math.max(...positions) + 1;
  const pixels =
    images && tensor(model.device, images.pixelValues, { shape: [images.pixelValues.length / PATCH, PATCH] });
  for (let i = 0; i < count; i++) {
    const all = [...Array.from(ids), ...made];
    const axis = (at: number): number[] => [
      ...positions.subarray(at * ids.length, (at + 1) * ids.length),
      ...made.map((_, m) => next + m),
    ];
    const hidden = model.forward(model.embed([all]), {
      positions: Int32Array.from([0, 1, 2].flatMap(axis)),
      rows: Int32Array.of(all.length - 1),
      ...(pixels && { images: { ...model.imageFeatures(pixels, grids), rows: imageRows } }),
    });
    made.push((await model.logits(hidden).argmax(-1).read())[0] as number);
  }
  return made;
}

test.for([false, true])(
  "a batch gives what each prompt gives alone, and what it gives without a cache; a step ahead: %s",
  async (ahead, { random }) => {
    const tiny = tinyModel(random);
    const prompts = mixedPrompts(random);
    const together = await idsOf(tiny, prompts, { maxNewTokens: 9, ahead });
    for (const [b, prompt] of prompts.entries()) {
      expect(await idsOf(tiny, [prompt], { maxNewTokens: 9, ahead })).toEqual([together[b]]);
      expect(await uncached(tiny, prompt, 9)).toEqual(together[b]);
    }
    // Different prompts have different answers, or this would show nothing.
    expect(new Set(together.map(String)).size).toBe(3);
  },
);

test("a left-padded batch that the caller has read gives the same", async ({ random }) => {
  const tiny = tinyModel(random);
  const { model } = tiny;
  const prompts = mixedPrompts(random).map(({ ids }) => Array.from(ids).filter((id) => id !== imageToken));
  const L = Math.max(...prompts.map(({ length }) => length));
  const rows = prompts.map((ids) => [...Array<number>(L - ids.length).fill(5), ...ids]);
  const cache = model.newCache(rows.length, { block: 8 });
  const last = untaped(() =>
    model.forward(model.embed(rows), {
      cache,
      valid: prompts.map((ids): Span => [L - ids.length, L]),
      rows: Int32Array.from(rows, (_, b) => (b + 1) * L - 1),
    }),
  );
  const got = await collect(decode(model, { cache, last }, { maxNewTokens: 6 }), rows.length);
  const want = await idsOf(
    tiny,
    prompts.map((ids) => ({ ids })),
    { maxNewTokens: 6 },
  );
  expect(got.map(({ ids }) => ids)).toEqual(want);
  cache.dispose();
});

test("draws follow the seed and the number of the sample, not the batch or how far ahead it runs", async ({
  random,
}) => {
  const tiny = tinyModel(random);
  const prompts = mixedPrompts(random);
  const options = { maxNewTokens: 12, temperature: 1.2, topK: 30, topP: 0.95, seed: 5 };
  const first = await idsOf(tiny, prompts, options);
  expect(await idsOf(tiny, prompts, { ...options, ahead: true })).toEqual(first);
  expect(await idsOf(tiny, prompts, { ...options, seed: key(5) })).toEqual(first);
  expect(await idsOf(tiny, prompts, { ...options, seed: 6 })).not.toEqual(first);
  expect(await idsOf(tiny, prompts, { ...options, temperature: 0 })).not.toEqual(first);
  expect(await idsOf(tiny, prompts, { ...options, topK: 1 })).toEqual(await idsOf(tiny, prompts, { maxNewTokens: 12 }));
  expect(await idsOf(tiny, prompts, { ...options, topP: 0 })).toEqual(await idsOf(tiny, prompts, { maxNewTokens: 12 }));
  const turned = await idsOf(tiny, prompts.toReversed(), { ...options, samples: [2, 1, 0] });
  expect(turned.toReversed()).toEqual(first);
  for (const [b, prompt] of prompts.entries()) {
    expect(await idsOf(tiny, [prompt], { ...options, samples: [b] })).toEqual([first[b]]);
  }
  // One prompt, many samples: their numbers tell them apart.
  const many = await idsOf(tiny, Array<Prompt>(8).fill(prompts[1] as Prompt), options);
  expect(new Set(many.map(String)).size).toBeGreaterThan(4);
});

test.for([false, true])(
  "a sequence ends at its stop token and rests while others go on; a step ahead: %s",
  async (ahead, { random }) => {
    const tiny = tinyModel(random);
    const prompts = mixedPrompts(random);
    const free = await idsOf(tiny, prompts, { maxNewTokens: 10 });
    const second = free[1] as number[];
    const stopAt = second[3] as number;
    const cut = free.map((ids) => {
      const at = ids.indexOf(stopAt);
      return at < 0 ? ids : ids.slice(0, at + 1);
    });
    const stopped = await run(tiny, prompts, { maxNewTokens: 10, stop: [stopAt, 1000], ahead });
    expect(stopped.map(({ ids }) => ids)).toEqual(cut);
    expect(stopped.map(({ finish }) => finish)).toEqual(cut.map((ids) => (ids.at(-1) === stopAt ? "stop" : "length")));
    expect(stopped.map(({ tokens }) => tokens.filter(({ finish }) => finish).length)).toEqual([1, 1, 1]);
    // A rule of the caller's sees every token of every sequence once, and each sequence may end by its own.
    const seen: number[][] = prompts.map(() => []);
    const rule = (id: number, b: number): boolean => (seen[b] as number[]).push(id) === b + 1;
    const ruled = await idsOf(tiny, prompts, { maxNewTokens: 10, stop: rule, ahead });
    expect(ruled).toEqual(free.map((ids, b) => ids.slice(0, b + 1)));
    expect(seen).toEqual(ruled);
  },
);

test("tokens come as soon as their step is done, sequence after sequence, and those that are done rest", async ({
  random,
}) => {
  const { model } = tinyModel(random);
  const order: [sequence: number, finish: string | null][] = [];
  const { cache, last } = prefill(model, mixedPrompts(random).slice(0, 2));
  const [begin = 0] = cache.lengths;
  const stop = (_: number, b: number): boolean => b === 0 && order.length >= 2;
  for await (const { sequence, finish } of decode(model, { cache, last }, { maxNewTokens: 4, stop })) {
    order.push([sequence, finish]);
    expect(cache.lengths[0]).toBe(begin + (order.length > 2 ? 1 : 0));
  }
  expect(order).toEqual([
    [0, null],
    [1, null],
    [0, "stop"],
    [1, null],
    [1, null],
    [1, "length"],
  ]);
  cache.dispose();
});

test.for([false, true])(
  "the cache holds all but the last token, and can be gone on from; a step ahead: %s",
  async (ahead, { random }) => {
    const tiny = tinyModel(random);
    const { model } = tiny;
    const prompts = mixedPrompts(random);
    const whole = await idsOf(tiny, prompts, { maxNewTokens: 8 });
    const { cache, last } = prefill(model, prompts);
    const begin = [...cache.lengths];
    expect(begin).toEqual(prompts.map(({ ids }) => ids.length));
    const rule = (_: number, b: number): boolean => b === 2;
    const first = await collect(decode(model, { cache, last }, { maxNewTokens: 4, stop: rule, ahead }), 3);
    expect(cache.lengths).toEqual(begin.map((n, b) => n + (b === 2 ? 0 : 3)));
    const lastIds = first.map(({ ids }) => [ids.at(-1) as number]);
    const next = untaped(() => model.forward(model.embed(lastIds), { cache }).reshape(3, -1));
    const rest = await collect(decode(model, { cache, last: next }, { maxNewTokens: 2, ahead }), 3);
    expect(rest.map(({ ids }) => ids)).toEqual(whole.map((ids, b) => (b === 2 ? ids.slice(1, 3) : ids.slice(4, 6))));
    cache.dispose();
    last.dispose();
  },
);

test("log-probabilities are of the model's own distribution, whatever is drawn from it", async ({ random }) => {
  const tiny = tinyModel(random);
  const { model } = tiny;
  const [, prompt] = mixedPrompts(random) as [Prompt, Prompt];
  const options = { maxNewTokens: 5, temperature: 2, topK: 5, seed: 3 };
  const [{ tokens } = { tokens: [] }] = await run(tiny, [prompt], { ...options, logProbs: 4 });
  expect(tokens).toHaveLength(5);
  for (const [i, token] of tokens.entries()) {
    const ids = [...Array.from(prompt.ids), ...tokens.slice(0, i).map(({ id }) => id)];
    const hidden = model.forward(model.embed([ids]), { rows: Int32Array.of(ids.length - 1) });
    const want = Array.from(await model.logits(hidden).reshape(-1).logSoftmax().read());
    const order = [...want.keys()].toSorted((a, b) => (want[b] as number) - (want[a] as number)).slice(0, 4);
    expect(token.top?.map(({ id }) => id)).toEqual(order);
    for (const { id, logProb = 0 } of [token, ...(token.top ?? [])]) expect(logProb).toBeCloseTo(want[id] as number, 3);
  }
  const [{ tokens: chosen } = { tokens: [] }] = await run(tiny, [prompt], { ...options, logProbs: 0 });
  expect(chosen.map(({ logProb, top }) => [logProb, top])).toEqual(tokens.map(({ logProb }) => [logProb, []]));
  const [{ tokens: plain } = { tokens: [] }] = await run(tiny, [prompt], options);
  expect(plain.map((token) => Object.keys(token))).toEqual(tokens.map(() => ["sequence", "id", "finish"]));
});

test("the context ends a sequence, and a prompt that fills it is refused", async ({ random }) => {
  const tiny = tinyModel(random);
  const most = tiny.model.maxPositions;
  const prompt = (length: number): Prompt => ({ ids: Array.from({ length }, () => random.integer(0, 90)) });
  const [long, short] = await run(tiny, [prompt(most - 3), prompt(most - 6)], { maxNewTokens: 5 });
  expect([long?.ids.length, short?.ids.length]).toEqual([3, 5]);
  expect([long?.finish, short?.finish]).toEqual(["length", "length"]);
  await expect(run(tiny, [prompt(3), prompt(most)], { maxNewTokens: 1 })).rejects.toThrow(
    new ContextError(
      `prompt 1 has ${most} tokens; the model's context of ${most} leaves no room for an answer: shorten it, or use fewer or smaller images`,
    ),
  );
});

test.for([false, true])("a cache that is full ends a sequence too; a step ahead: %s", async (ahead, { random }) => {
  const tiny = tinyModel(random);
  const prompts = [{ ids: [1, 2, 3] }, { ids: [4] }];
  const whole = await idsOf(tiny, prompts, { maxNewTokens: 5 });
  const prefilled = prefill(tiny.model, prompts, { limit: 5 });
  const got = await collect(decode(tiny.model, prefilled, { maxNewTokens: 9, ahead }), 2);
  // The last token of a sequence takes no room.
  expect(got.map(({ ids }) => ids)).toEqual([whole[0]?.slice(0, 3), whole[1]]);
  expect(got.map(({ finish }) => finish)).toEqual(["length", "length"]);
  prefilled.cache.dispose();
  prefilled.last.dispose();
});

test("what cannot be asked for is refused", async ({ random }) => {
  const tiny = tinyModel(random);
  const prompts = [{ ids: [1, 2] }];
  const refused: [readonly Prompt[], GenerateOptions, string][] = [
    [[], { maxNewTokens: 1 }, "no prompt"],
    [[{ ids: [] }], { maxNewTokens: 1 }, "prompt 0 is empty"],
    [prompts, { maxNewTokens: 0 }, "maxNewTokens is 0"],
    [prompts, { maxNewTokens: 1.5 }, "maxNewTokens is 1.5"],
    [prompts, { maxNewTokens: 1, logProbs: -1 }, "logProbs is -1"],
    [prompts, { maxNewTokens: 1, logProbs: 98 }, "logProbs is 98"],
    [prompts, { maxNewTokens: 1, samples: [1, 2] }, "2 samples number 1 sequences"],
    [prompts, { maxNewTokens: 1, samples: [-1] }, "a sample has the number -1"],
    [prompts, { maxNewTokens: 1, temperature: -1 }, "temperature is -1"],
    [prompts, { maxNewTokens: 1, temperature: NaN }, "temperature is NaN"],
    [prompts, { maxNewTokens: 1, topK: -2 }, "topK is -2"],
    [prompts, { maxNewTokens: 1, topP: 1.5 }, "topP is 1.5"],
  ];
  for (const [given, options, why] of refused) {
    const error = await run(tiny, given, options).catch((reason: unknown) => reason);
    expect(error, why).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain(why);
  }
  await expect(run(tiny, [{ ids: [97] }], { maxNewTokens: 1 })).rejects.toThrow("97");
  await expect(run(tiny, [{ ids: [imageToken] }], { maxNewTokens: 1 })).rejects.toThrow("more images than");
});

test("every step draws anew", async ({ device, random }) => {
  const tiny = tinyModel(random);
  const norm = tiny.parameters.get("model.language_model.norm.weight") as Tensor;
  assign(norm, zeros(device, norm.shape));
  // All 97 tokens are equally likely, so a token tells the number that was drawn.
  const [ids] = await idsOf(tiny, [{ ids: [3] }], { maxNewTokens: 16, temperature: 1 });
  expect(new Set(ids).size).toBeGreaterThan(10);
});

test("equal scores take the first token", async ({ device, random }) => {
  const tiny = tinyModel(random);
  const norm = tiny.parameters.get("model.language_model.norm.weight") as Tensor;
  assign(norm, zeros(device, norm.shape));
  expect(await idsOf(tiny, [{ ids: [3] }], { maxNewTokens: 2 })).toEqual([[0, 0]]);
});
