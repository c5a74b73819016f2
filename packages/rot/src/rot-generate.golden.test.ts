/** Generation of Render-of-Thought against the published code, from checkpoints that are written and opened again. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stack, type Tensor } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { GoldenFile, toleranceOf } from "../../models/test/tools/golden-folder.ts";
import { type Generation, openGolden, stopOf } from "../test/tools/golden-bundle.ts";
import { type Bundle, openBundle } from "./bundle/node/index.ts";
import { advance, type LatentSource } from "./latent/rollout.ts";
import { closeThought, generateAnswers, latentsOf, readThought, think } from "./methods/rot/generate.ts";
import { type Markers, questionTokens } from "./methods/rot/prompt.ts";

const { golden, index, writeGoldenBundle } = openGolden("given");

const tolerance = toleranceOf(golden);
const folder = mkdtempSync(join(tmpdir(), "rot-generate-"));
afterAll(() => rmSync(folder, { recursive: true }));

const largestOf = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The head that all went on with. */
const afterStage1 = `stage1_${Object.keys(index.stage1_train)[0]}_final.safetensors`;

const stages = [
  {
    name: "before training",
    file: "generate_before.safetensors",
    runs: index.generate_before_training,
    head: "setup.safetensors",
  },
  {
    name: "after stage 1",
    file: "generate_after_stage1.safetensors",
    runs: index.generate_after_stage1,
    head: afterStage1,
  },
  {
    name: "after stage 2",
    file: "generate_after_stage2.safetensors",
    runs: index.generate_after_stage2,
    head: afterStage1,
    adapters: "stage2_lora_final.safetensors",
  },
];

/** How many tokens mean something: those whose margins, and all before, are well above the error of the logits. */
function meaningful({ margins }: Generation, error: number): number {
  const at = margins.findIndex((margin) => margin <= 4 * error);
  return at < 0 ? margins.length : at;
}

const markersOf = ({ markers }: Bundle): Markers => markers as Markers;
const promptsOf = (bundle: Bundle, runs: readonly Generation[]): Int32Array[] =>
  runs.map(({ sample }) => questionTokens(bundle, index.samples[sample]?.question ?? "", markersOf(bundle)));

test.for(stages)("$name: latents, logits and tokens, all samples in one batch", async (stage, { device }) => {
  const path = await writeGoldenBundle(device, join(folder, stage.name.replaceAll(" ", "-")), stage);
  const bundle = await openBundle(path, device, { dtype: "f32" });
  expect(bundle.markers).toMatchObject({
    begin: index.ids["<img_begin>"],
    end: index.ids["<img_end>"],
    vocabulary: index.vocab_after_resize,
  });
  const file = await GoldenFile.open(golden, stage.file);
  const { model } = bundle.pretrained;
  const source = bundle.source as LatentSource;
  const markers = markersOf(bundle);
  let compared = 0;
  const budgets = new Set(stage.runs.map(({ budget }) => budget));
  for (const budget of budgets) {
    const runs = stage.runs.filter((run) => run.budget === budget);
    const prompts = promptsOf(bundle, runs);
    const thought = await think(model, source, prompts, { budget }, markers);
    for (const [b, latents] of latentsOf(thought, model).entries()) {
      const { values } = await file.host(`latents.${runs[b]?.sample}`);
      await expect(latents).toBeClose(values, { absolute: tolerance * largestOf(values) });
    }

    // The first rows of logits, each after the golden tokens before it.
    let { cache, last } = closeThought(model, thought, markers);
    const rows: Tensor[] = [];
    const wanted = await Promise.all(runs.map(({ sample }) => file.host(`logits.${sample}`)));
    const count = wanted[0]?.shape[0] ?? 0;
    for (let i = 0; i < count; i++) {
      rows.push(model.logits(last));
      const next = model.embed(Int32Array.from(runs, ({ tokens }) => tokens[i] ?? 0)).reshape(-1, model.width);
      last = advance(
        model,
        cache,
        next,
        runs.map(() => true),
      );
    }
    for (const [b, { values }] of wanted.entries()) {
      const own = stack(rows.map((row) => row.slice([b, b + 1]).reshape(-1)));
      await expect(own).toBeClose(values, { absolute: tolerance * largestOf(values) });
    }
    thought.dispose();

    const answers = await generateAnswers(model, source, prompts, {
      policy: { budget },
      markers,
      tokenizer: bundle.tokenizer,
      maxNewTokens: Math.max(...runs.map(({ tokens }) => tokens.length)),
      stop: bundle.stop,
    });
    for (const [b, run] of runs.entries()) {
      const count = meaningful(run, tolerance * largestOf(wanted[b]?.values ?? []));
      compared += count;
      const answer = answers[b];
      expect(answer?.latents).toBe(budget);
      expect(answer?.ids.slice(0, count)).toEqual(run.tokens.slice(0, count));
      if (count < run.margins.length) continue;
      expect(answer?.text).toBe(run.text);
      expect(answer?.finish).toBe(run.stopped_by_eos ? "stop" : "length");
    }
  }
  expect(compared, "tokens that can be compared").toBeGreaterThan(0);
  bundle.dispose();
});

test("another stop token ends the answer, and is left out of it", async ({ device }) => {
  const path = await writeGoldenBundle(device, join(folder, "stop"), { head: "setup.safetensors" });
  const bundle = await openBundle(path, device, { dtype: "f32" });
  for (const run of index.generate_with_other_stop_token) {
    const [answer] = await generateAnswers(
      bundle.pretrained.model,
      bundle.source as LatentSource,
      promptsOf(bundle, [run]),
      {
        policy: { budget: run.budget },
        markers: markersOf(bundle),
        tokenizer: bundle.tokenizer,
        maxNewTokens: Math.max(...index.generate_before_training.map(({ tokens }) => tokens.length)),
        stop: [stopOf(bundle.tokenizer, run)],
      },
    );
    expect(answer).toMatchObject({ ids: run.tokens, finish: run.stopped_by_eos ? "stop" : "length", text: run.text });
  }
  bundle.dispose();
});

test("one parallel pass over given latents goes on as the cache of the roll-out does", async ({ device }) => {
  const path = await writeGoldenBundle(device, join(folder, "parallel"), { head: "setup.safetensors" });
  const bundle = await openBundle(path, device, { dtype: "f32" });
  const { model } = bundle.pretrained;
  const prompts = promptsOf(bundle, index.generate_before_training);
  const thought = await think(model, bundle.source as LatentSource, prompts, { budget: 5 }, markersOf(bundle));
  const stepwise = closeThought(model, thought, markersOf(bundle));
  const parallel = readThought(model, prompts, latentsOf(thought, model), markersOf(bundle));
  const want = await stepwise.last.read();
  await expect(parallel.last).toBeClose(want, { absolute: 1e-5 * largestOf(want) });
  expect(parallel.cache.lengths).toEqual(stepwise.cache.lengths);
  parallel.cache.dispose();
  thought.dispose();
  bundle.dispose();
});
