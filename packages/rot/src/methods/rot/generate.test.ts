/** Roll-outs and their ends, on the tiny golden model: what it writes means nothing, but every number can be checked. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Device } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { openGolden } from "../../../test/tools/golden-bundle.ts";
import { type Bundle, openBundle } from "../../bundle/node/index.ts";
import type { LatentSource } from "../../latent/rollout.ts";
import { generateAnswers, type GenerateAnswersOptions, latentsOf, think } from "./generate.ts";
import { type Markers, questionTokens } from "./prompt.ts";

const { index, writeGoldenBundle } = openGolden("own");

const folder = mkdtempSync(join(tmpdir(), "rot-generate-"));
afterAll(() => rmSync(folder, { recursive: true }));

let opened: Promise<Bundle> | undefined;
/** One for all tests. */
async function open(device: Device) {
  opened ??= writeGoldenBundle(device, folder, { head: "setup.safetensors" }).then((path) =>
    openBundle(path, device, { dtype: "f32" }),
  );
  const bundle = await opened;
  const markers: Markers = bundle.markers as NonNullable<Bundle["markers"]>;
  return {
    model: bundle.pretrained.model,
    source: bundle.source as LatentSource,
    markers,
    prompts: index.samples.map(({ question }) => questionTokens(bundle, question, markers)),
    options: { markers, tokenizer: bundle.tokenizer, maxNewTokens: 6, stop: bundle.stop },
  };
}

const answer = ({ ids, latents }: { ids: readonly number[]; latents: number }) => ({ ids, latents });

test("an answer does not depend on what else is in its batch", async ({ device }) => {
  const { model, source, prompts, options } = await open(device);
  const all: GenerateAnswersOptions = { ...options, policy: { budget: 5 }, temperature: 1, topP: 0.9, seed: 3 };
  const together = await generateAnswers(model, source, prompts, all);
  expect(new Set(prompts.map(({ length }) => length)).size).toBeGreaterThan(1);
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await generateAnswers(model, source, [prompt], { ...all, samples: [i] });
    expect(answer(alone!)).toEqual(answer(together[i]!));
  }
  const other = await generateAnswers(model, source, prompts, { ...all, seed: 4 });
  expect(other.map(({ ids }) => ids)).not.toEqual(together.map(({ ids }) => ids));
});

const BUDGET = 6;

/** By prompt: the likeliest token before each latent, and each latent's distance to the embedding of a token. */
async function look(device: Device, token: number) {
  const { model, source, prompts, markers } = await open(device);
  const scores: Promise<ArrayLike<number>>[] = [];
  const spy: LatentSource = (hidden) => {
    scores.push(model.logits(hidden).read());
    return source(hidden);
  };
  const thought = await think(model, spy, prompts, { budget: BUDGET }, markers);
  const logits = await Promise.all(scores);
  const embedding = await model.embed(Int32Array.of(token)).read();
  const latents = await Promise.all(latentsOf(thought, model).map((latent) => latent.read()));
  thought.dispose();
  const { width, vocabulary } = model;
  return {
    likeliest: prompts.map((_, b) => logits.map((values) => argmaxOf(values, b * vocabulary, vocabulary))),
    distances: latents.map((values) =>
      Array.from({ length: BUDGET }, (_, t) => {
        const squares = Array.from(embedding, (e, d) => (Number(values[t * width + d]) - Number(e)) ** 2);
        return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / width);
      }),
    ),
  };
}

function argmaxOf(values: ArrayLike<number>, begin: number, length: number): number {
  let best = 0;
  for (let i = 1; i < length; i++) if ((values[begin + i] as number) > (values[begin + best] as number)) best = i;
  return best;
}

const firstOr = (at: number): number => (at < 0 ? BUDGET : at);

test("the dynamic end comes where the end token is the likeliest, for each sequence at its own step", async ({
  device,
}) => {
  const { model, source, prompts, markers, options } = await open(device);
  const { likeliest } = await look(device, markers.end);
  // Any token can play the end; one that only some sequences come to, and not at once, says most.
  const counts = (token: number): number[] => likeliest.map((row) => firstOr(row.indexOf(token)));
  const ends = [...new Set(likeliest.flat())].toSorted((a, b) => new Set(counts(b)).size - new Set(counts(a)).size);
  expect(new Set(counts(ends[0] as number)).size).toBeGreaterThan(1);
  for (const end of ends.slice(0, 2)) {
    const acted = { ...markers, end };
    const answers = await generateAnswers(model, source, prompts, {
      ...options,
      markers: acted,
      policy: { max: BUDGET },
    });
    expect(answers.map(({ latents }) => latents)).toEqual(counts(end));
    // From there on it is what a budget of as many latents gives.
    for (const [b, prompt] of prompts.entries()) {
      const policy = { budget: counts(end)[b] as number };
      const [fixed] = await generateAnswers(model, source, [prompt], { ...options, markers: acted, policy });
      expect(answers[b]?.ids).toEqual(fixed?.ids);
    }
  }
});

test("a threshold ends at the first latent that near to the end's embedding, and leaves that out", async ({
  device,
}) => {
  const { model, source, prompts, markers, options } = await open(device);
  // Far from what is ever the likeliest, so that only the distance can end it.
  const { likeliest, distances } = await look(device, markers.end);
  expect(likeliest.flat()).not.toContain(markers.end);
  const sorted = distances.flat().toSorted((a, b) => a - b);
  for (const share of [0.2, 0.6]) {
    const at = Math.floor(share * sorted.length);
    const threshold = ((sorted[at - 1] as number) + (sorted[at] as number)) / 2;
    const answers = await generateAnswers(model, source, prompts, { ...options, policy: { max: BUDGET, threshold } });
    const want = distances.map((row) => firstOr(row.findIndex((distance) => distance <= threshold)));
    expect(answers.map(({ latents }) => latents)).toEqual(want);
  }
});

test("latents given in place of the own are what the answer follows", async ({ device }) => {
  const { model, source, prompts, options } = await open(device);
  const policy = { budget: 4 };
  const own = await generateAnswers(model, source, prompts, { ...options, policy });
  const same = await generateAnswers(model, source, prompts, {
    ...options,
    policy,
    replace: (latents) => latents.map((x) => x.mul(1)),
  });
  expect(same.map(answer)).toEqual(own.map(answer));
  const none = await generateAnswers(model, source, prompts, {
    ...options,
    policy,
    replace: (latents) => latents.map((x) => x.slice([0, 0])),
  });
  const zero = await generateAnswers(model, source, prompts, { ...options, policy: { budget: 0 } });
  expect(none.map(answer)).toEqual(zero.map(answer));
  expect(none.map(answer)).not.toEqual(own.map(answer));
});

test("a budget that is no number, and a prompt that leaves no room, are refused", async ({ device }) => {
  const { model, source, prompts, options } = await open(device);
  const generate = (budget: number, asked = prompts) =>
    generateAnswers(model, source, asked, { ...options, policy: { budget } });
  await expect(generate(-1)).rejects.toThrow(/-1 is no number of latents/);
  await expect(generate(1.5)).rejects.toThrow(/1.5 is no number of latents/);
  await expect(generate(model.maxPositions)).rejects.toThrow(/prompt 0 with its latents has \d+ tokens/);
});

test("memory is given back, also after an error", async ({ ownDevice: device }) => {
  const { model, source, prompts, options } = await open(device);
  const generate = (policy: GenerateAnswersOptions["policy"], from = source) =>
    generateAnswers(model, from, prompts, { ...options, policy });
  await generate({ budget: 3 });
  const before = device.memory().live;
  await generate({ budget: 3 });
  await generate({ max: 3, threshold: 0.1 });
  await generateAnswers(model, source, prompts, {
    ...options,
    policy: { budget: 2 },
    replace: (own) => own.map((x) => x.mul(0)),
  });
  let calls = 0;
  const failing: LatentSource = (hidden) => {
    if (calls++ === 2) throw new Error("on purpose");
    return source(hidden);
  };
  await expect(generate({ budget: 3 }, failing)).rejects.toThrow("on purpose");
  expect(device.memory().live).toBe(before);
  await generate({ budget: 1 }); // holds the model until here
});
