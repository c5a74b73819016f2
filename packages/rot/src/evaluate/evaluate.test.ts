/** Evaluation of the tiny golden model, and its results on disk, across kills and resumes. */
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ContextError } from "@rot/models";
import { type Device, openDevice, stack, type Tensor, zeros } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { openGolden } from "../../test/tools/golden-bundle.ts";
import { openBundle } from "../bundle/node/index.ts";
import type { LatentPolicy } from "../bundle/config.ts";
import type { LatentSource } from "../latent/rollout.ts";
import { generateAnswers, type GenerateAnswersOptions } from "../methods/rot/generate.ts";
import { questionTokens } from "../methods/rot/prompt.ts";
import { ablate, ablations, arms } from "./ablations.ts";
import { evaluate } from "./evaluate.ts";
import type { EvaluateOptions, Subject } from "./options.ts";
import { measureOf, openResults, type ResultsOptions, subjectOf } from "./node/index.ts";
import { type Row, summarize } from "./rows.ts";
import { seedInterval, wilsonInterval } from "./statistics.ts";

const { base, index, writeGoldenBundle } = openGolden("own");

const folder = mkdtempSync(join(tmpdir(), "rot-evaluate-"));
afterAll(() => rmSync(folder, { recursive: true }));

const samples = index.samples.map(({ question, cot, answer }, i) => ({ id: `q${i}`, question, cot, answer }));
const options: EvaluateOptions = {
  arms: ["own"],
  seeds: [0],
  batchSize: 3,
  maxNewTokens: 3,
  temperature: 0,
  topP: 1,
  rule: "robust",
};

let path: Promise<string> | undefined;
async function open(device: Device, policy: LatentPolicy = { budget: 4 }) {
  path ??= writeGoldenBundle(device, folder, { head: "setup.safetensors" });
  const bundle = await openBundle(await path, device, { dtype: "f32" });
  return { bundle, subject: subjectOf(bundle, policy) };
}

async function rowsOf(subject: Subject, changed: Partial<EvaluateOptions> = {}, asked = samples): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const some of evaluate(subject, asked, { ...options, ...changed })) rows.push(...some);
  return rows;
}

/** A row without what a clock says. */
const timeless = (row: Row) => ({ ...row, seconds: 0 });
const of = (rows: readonly Row[], arm: string) => rows.filter((row) => row.arm === arm).map(timeless);

test("every arm answers every sample, and none depends on the batch or on what was done before", async ({ device }) => {
  const { subject } = await open(device);
  const rows = await rowsOf(subject, { arms });
  expect(rows).toHaveLength(arms.length * samples.length);
  // Those that depend on a sample's number, or on other samples.
  const some = ["own", "noise", "other", "mean"] as const;
  const again = await rowsOf(subject, { arms: some, batchSize: 1 });
  for (const arm of some) expect(of(again, arm), `${arm}, one by one`).toEqual(of(rows, arm));
  const rest = await rowsOf(subject, { arms: some, done: new Set(["q0", "q2"]) });
  for (const arm of some) expect(of(rest, arm)).toEqual(of(rows, arm).filter(({ id }) => id === "q1" || id === "q3"));
  const written = ablations.map((arm) => JSON.stringify(of(rows, arm).map(({ prediction }) => prediction)));
  const own = JSON.stringify(of(rows, "own").map(({ prediction }) => prediction));
  for (const arm of ["zeros", "none", "noise"] as const) expect(written[ablations.indexOf(arm)], arm).not.toBe(own);
  expect(of(rows, "none").map(({ latents }) => latents)).toEqual([0, 0, 0, 0]);
  expect(of(rows, "other").map(({ latents }) => latents)).toEqual([4, 4, 4, 4]);
});

test("what each ablation puts in place of the latents", async ({ random }) => {
  const [own, other, mean] = [random.normal([5, 8]), random.normal([3, 8]), random.normal([6, 8])];
  const given = { own, other: () => other, mean: () => mean, seed: 1 };
  const values = async (arm: (typeof ablations)[number]) => {
    const made = ablate(arm, given);
    const flat = Array.from(await made.read());
    return Array.from({ length: made.shape[0] as number }, (_, t) => flat.slice(8 * t, 8 * t + 8) as number[]);
  };
  const flat = Array.from(await own.read()) as number[];
  const rows = Array.from({ length: 5 }, (_, t) => flat.slice(8 * t, 8 * t + 8));
  expect(await values("zeros")).toEqual(rows.map((row) => row.map(() => 0)));
  const noise = await values("noise");
  for (const [t, row] of noise.entries()) {
    expect(Math.hypot(...row)).toBeCloseTo(Math.hypot(...(rows[t] as number[])), 4);
    expect(row).not.toEqual(rows[t]);
  }
  for (let seed = 0; seed < 20; seed++) {
    const made = Array.from(await ablate("shuffled", { ...given, seed }).read()) as number[];
    const shuffled = rows.map((_, t) => made.slice(8 * t, 8 * t + 8));
    expect(shuffled.map(String).toSorted()).toEqual(rows.map(String).toSorted());
    expect(shuffled.at(-1)).not.toEqual(rows.at(-1));
  }
  expect(await values("reversed")).toEqual(rows.toReversed());
  expect(await values("repeated")).toEqual(rows.map(() => rows[0]));
  expect((await values("other")).flat()).toEqual(Array.from(await other.read()));
  expect((await values("mean")).flat()).toEqual(Array.from(await mean.read()).slice(0, 40));
  expect(await values("none")).toEqual([]);
});

test("the mean is over all samples at each step, and others' latents are the next sample's", async ({ device }) => {
  const { bundle, subject } = await open(device);
  const { markers, policy } = subject.latents as NonNullable<Subject["latents"]>;
  // Latents that matter: whose they are must show in the answers.
  const source: LatentSource = (hidden) => hidden.mul(4);
  const prompts = samples.map(({ question }) => questionTokens(bundle, question, markers));
  const loud = { ...subject, latents: { source, markers, policy } };
  const rows = await rowsOf(loud, { arms: ["own", "other", "mean"], maxNewTokens: 6 });
  const replacements: Record<string, GenerateAnswersOptions["replace"]> = {
    other: (own) => own.map((_, i) => own[(i + 1) % own.length]?.mul(1) as Tensor),
    mean: (own) => own.map(() => stack(own).mean(0)),
  };
  for (const [arm, replace] of Object.entries(replacements)) {
    const answers = await generateAnswers(subject.model, source, prompts, {
      policy,
      markers,
      tokenizer: bundle.tokenizer,
      maxNewTokens: 6,
      stop: subject.stop,
      ...(replace && { replace }),
    });
    expect(
      of(rows, arm).map(({ prediction }) => prediction),
      arm,
    ).toEqual(answers.map(({ text }) => text));
    expect(of(rows, arm)).not.toEqual(of(rows, "own"));
  }
});

test("latents of other questions leave nothing on the device, nor do latents that do not fit", async ({
  device: shared,
}) => {
  await open(shared); // writes the bundle
  // One of its own: on the other there is what earlier tests have left to the garbage collector.
  using device = await openDevice({ notice: () => {} });
  const { bundle, subject } = await open(device);
  const { markers, policy, source } = subject.latents as NonNullable<Subject["latents"]>;
  const tooLong = () =>
    generateAnswers(subject.model, source, [questionTokens(bundle, "1+1?", markers)], {
      policy,
      markers,
      tokenizer: bundle.tokenizer,
      maxNewTokens: 1,
      stop: subject.stop,
      replace: () => [zeros(device, [subject.model.maxPositions, subject.model.width])],
    });
  const before = device.memory().live;
  await rowsOf(subject, { arms: ["own", "other"], batchSize: 1, maxNewTokens: 1 }, samples.slice(0, 2));
  await expect(tooLong()).rejects.toThrow(ContextError);
  expect(device.memory().live).toBe(before);
});

test("samples that leave no room, and scores that are no numbers, fail alone and count as wrong", async ({
  device,
}) => {
  const { subject } = await open(device);
  const long = { id: "long", question: "seven ".repeat(subject.model.maxPositions), cot: "", answer: "1" };
  const rows = await rowsOf(subject, { arms: ["own", "other"] }, [samples[0]!, long, samples[1]!]);
  expect(
    rows
      .filter(({ id }) => id === "long")
      .map(({ arm, finish, latents, is_correct }) => ({ arm, finish, latents, is_correct })),
  ).toEqual(["own", "other"].map((arm) => ({ arm, finish: "error", latents: null, is_correct: false })));
  expect(rows.find(({ id }) => id === "long")?.prediction).toMatch(/^ERROR: the question has \d+ tokens/);
  expect(summarize(rows)).toMatchObject({ total: 3, arms: { own: { failed: 1, total: 3 } } });

  const latents = subject.latents as NonNullable<Subject["latents"]>;
  // NaN for the batches that hold the second sample, which is the only one of its length.
  let [calls, batches] = [0, 0];
  const source: LatentSource = (hidden) => {
    if (calls++ % 4 === 0) batches++;
    return batches === 1 || batches === 3 ? hidden.mul(Number.NaN) : latents.source(hidden);
  };
  const spoilt = await rowsOf({ ...subject, latents: { ...latents, source } }, {}, samples.slice(0, 3));
  expect(spoilt.map(({ finish }) => finish === "error")).toEqual([false, true, false]);
});

test("seeds draw other answers from one roll-out", async ({ device }) => {
  const { subject } = await open(device);
  const rows = await rowsOf(subject, { seeds: [3, 4], temperature: 1, topP: 0.9 });
  const [three, four] = [3, 4].map((seed) =>
    rows.filter((row) => row.seed === seed).map(({ prediction }) => prediction),
  );
  expect(three).not.toEqual(four);
  const alone = await rowsOf(subject, { seeds: [4], temperature: 1, topP: 0.9, batchSize: 1 });
  expect(alone.map(({ prediction }) => prediction)).toEqual(four);
  await expect(rowsOf(subject, { seeds: [0, 1] })).rejects.toThrow(/temperature 0 every seed gives the same/);
  await expect(rowsOf(subject, { arms: ["own", "other"] }, samples.slice(0, 1))).rejects.toThrow(/one sample/);
});

test("a text model's #L is its chain", async ({ device }) => {
  const bundle = await openBundle(base, device);
  const subject = subjectOf(bundle);
  const rows = await rowsOf(subject);
  expect(rows.map(({ latents, tokens }) => latents === tokens)).toEqual([true, true, true, true]); // it never writes ###
  expect((await rowsOf({ ...subject, chain: false })).map(({ latents }) => latents)).toEqual([0, 0, 0, 0]);
  await expect(rowsOf(subject, { arms: ["own", "zeros"] })).rejects.toThrow(/no latents/);
});

test("compression is counted as the published code counts it", async ({ device }) => {
  const { bundle, subject } = await open(device);
  const measure = await measureOf(bundle);
  const rows = await rowsOf(subject, { measure });
  for (const [i, row] of rows.entries()) {
    const tokens = bundle.tokenizer.encode(samples[i]?.cot ?? "").length;
    expect(row.used_ratio).toBeCloseTo(tokens / 4);
    expect(row.compression_ratio).toBeCloseTo(tokens / (measure(samples[i]?.cot ?? "")?.latents ?? 0));
  }
  const { compression } = summarize(rows);
  expect(compression?.avg_used_ratio).toBeCloseTo(rows.reduce((sum, row) => sum + (row.used_ratio ?? 0), 0) / 4);
  expect(measure("x".repeat(2_000_000))).toBeNull();
});

test("intervals are those of the tables", () => {
  const [low, high] = wilsonInterval(8, 10);
  expect([low, high].map((end) => end.toFixed(2))).toEqual(["49.02", "94.33"]);
  expect(wilsonInterval(0, 20)[0]).toBe(0);
  expect(wilsonInterval(0, 0)).toEqual([0, 100]);
  // t(0.975, 4) · s / √5
  expect(seedInterval([1, 2, 3, 4, 5]).map((end) => end.toFixed(3))).toEqual(["1.037", "4.963"]);
  expect(seedInterval([7])).toEqual([7, 7]);
});

const row = (id: string, extra: Partial<Row> = {}): Row => ({
  id,
  arm: "own",
  seed: 0,
  question: "?",
  cot: "",
  ground_truth: "1",
  prediction: "### 1",
  predicted_answer: "1",
  is_correct: true,
  latents: 4,
  reasoning: "latents",
  tokens: 2,
  finish: "stop",
  seconds: 0.5,
  compression_ratio: 2,
  used_ratio: 3,
  ...extra,
});

test("rows add up", () => {
  const rows = [row("a"), row("b", { is_correct: false, latents: 6 }), row("a", { seed: 1 }), row("b", { seed: 1 })];
  expect(summarize([...rows, row("a", { arm: "zeros", is_correct: false })])).toMatchObject({
    accuracy: 0.75,
    correct: 3,
    total: 4,
    compression: { avg_compression_ratio: 2, avg_saved_percentage: 50, avg_used_ratio: 3 },
    arms: {
      own: {
        total: 2,
        latents: 4.5,
        seconds_per_sample: 0.5,
        tokens_per_second: 13,
        stopped: 100,
        score: {
          correct: 3,
          pass_at_1: 75,
          interval_of: "seeds",
          by_seed: { 0: 50, 1: 100 },
          pass_at_1_per_latent: 75 / 4.5,
        },
      },
      zeros: { total: 1, score: { pass_at_1: 0, interval_of: "samples" } },
    },
  });
});

test("tokens of a chain in text are counted once, and are no latents that were used", async ({ device }) => {
  expect(summarize([row("a", { reasoning: "text", latents: 4, tokens: 6 })]).arms.own?.tokens_per_second).toBe(12);
  const { subject } = await open(device);
  const text = await rowsOf({ ...subject, latents: null, chain: true }, { measure: () => ({ tokens: 9, latents: 3 }) });
  for (const { reasoning, latents, used_ratio: used, compression_ratio: drawn } of text) {
    expect({ reasoning, latents, used, drawn }).toEqual({ reasoning: "text", latents: 3, used: null, drawn: 3 });
  }
});

test.for(["json", "jsonl"] as const)("results in %s survive kills, and are gone on with", async (format) => {
  const file = join(folder, `results.${format}`);
  const settings = { checkpoint: "c", seeds: [0, 1] };
  const given: ResultsOptions = { format, settings, resume: false, rowsPerSample: 2 };
  const both = (id: string) => [row(id), row(id, { seed: 1 })];
  const first = await openResults(file, given);
  await first.append(both("a"));
  await first.append([...both("b"), row("c")]);
  appendFileSync(`${file}.partial`, '{"id":"c","arm":"own","se');
  await expect(openResults(file, given)).rejects.toThrow(/was not finished: go on with it by --resume, or delete it/);
  await expect(openResults(file, { ...given, resume: true, settings: { ...settings, seeds: [0] } })).rejects.toThrow(
    /was made with seeds \[0,1\], now it is \[0\]/,
  );
  const second = await openResults(file, { ...given, resume: true });
  expect([...second.done]).toEqual(["a", "b"]);
  await second.append(both("c"));
  const summary = await second.finish();
  expect(summary.total).toBe(6);
  expect(existsSync(`${file}.partial`)).toBe(false);
  const text = readFileSync(file, "utf8");
  if (format === "json") {
    expect(JSON.parse(text)).toMatchObject({ accuracy: 1, total_samples: 3, settings });
    expect((JSON.parse(text) as { sample_results: Row[] }).sample_results.map(({ id }) => id).join("")).toBe("aabbcc");
  } else {
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toHaveLength(8);
    expect(lines[0]).toEqual({ settings });
    expect(lines.at(-1)).toEqual({ summary: JSON.parse(JSON.stringify(summary)) as unknown });
  }
  const third = await openResults(file, { ...given, resume: true });
  expect([...third.done]).toEqual(["a", "b", "c"]);
  await third.finish();
  expect(readFileSync(file, "utf8")).toBe(text);
  // The published script's own results say of no settings.
  for (const other of ["what is this\n", '{"total_samples": 0, "sample_results": []}']) {
    writeFileSync(file, other);
    await expect(openResults(file, { ...given, resume: true })).rejects.toThrow(/is no result of rot-cli evaluate/);
  }
});
