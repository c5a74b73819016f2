import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, gatherRows, key, tensor, type Tensor } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { dejaVuSans } from "../render/node/dejavu.ts";
import { runTask } from "../train/run-task.ts";
import type { TrainingTask } from "../train/task.ts";
import { createTinyHead, directTask, firstStage, secondStage } from "./arms.ts";
import { chainSequence, chainTask, cooldownTask, type Material, readingTask, scaleLatents } from "./base.ts";
import { scoreChain, scoreDirect, scoreThoughts, thoughtAccuracy } from "./evaluate.ts";
import { createTiny } from "./model.ts";
import { trainBase } from "./node/run-tiny.ts";
import { type Runner, runner, type TinyValidation } from "./node/runner.ts";
import { openShippedBase } from "./node/shipped.ts";
import { createProblems } from "./problems.ts";
import { createStrips } from "./strips.ts";
import { textLosses } from "./text-losses.ts";
import { marks } from "./vocabulary.ts";

let made: Promise<Material> | undefined;
const material = (device: Device): Promise<Material> =>
  (made ??= dejaVuSans()
    .then((font) => createStrips(device, font))
    .then((strips) => ({ strips, problems: createProblems(8) })));

/** The losses of so many steps on the batch of the first. */
async function learn(task: TrainingTask, steps: number): Promise<number[]> {
  const losses: number[] = [];
  const onStep = (report: { readonly losses: Readonly<Record<string, number>> }): void => {
    losses.push(report.losses["loss"] as number);
  };
  await runTask({ ...task, steps, gradients: () => task.gradients(0) }, { onStep });
  return losses;
}

test("each stage lowers its loss in a few steps, and changes what it may change and nothing else", async ({
  device,
}) => {
  const given = await material(device);
  const base = createTiny(device, 0);
  const bytes = async (): Promise<Map<string, string>> => {
    const values = [...base.weights].map(
      async ([name, t]) => [name, Buffer.from((await t.read()).buffer).toString("base64")] as const,
    );
    return new Map(await Promise.all(values));
  };
  let before = await bytes();
  const changed = async (task: TrainingTask): Promise<string[]> => {
    const losses = await learn(task, 2);
    expect(losses[1], task.name).toBeLessThan(losses[0] as number);
    const last = before;
    before = await bytes();
    return [...last.keys()].filter((name) => last.get(name) !== before.get(name));
  };
  const all = [...base.weights.keys()];
  const decoder = all.filter((name) => !name.includes("visual"));
  expect(await changed(readingTask(base, given, { seed: 1 }))).toEqual(all);

  await scaleLatents(base, given);
  before = await bytes();
  const chains = Array.from({ length: 64 }, (_, i) => given.problems.training(key(0).for("tiny.scale"), i).values);
  expect(await given.strips.see(base.model, chains).square().mean().item()).toBeCloseTo(1, 4);

  expect(await changed(chainTask(base, given, { seed: 1 }))).toEqual(decoder);
  expect(await changed(cooldownTask(base, given, { seed: 1 }))).toEqual(decoder);
  expect(await changed(directTask(base, given, { seed: 1 }))).toEqual(decoder);
  const head = createTinyHead(base, 1);
  expect(await changed(firstStage(base, head, given, { seed: 1 }))).toEqual([]);
  const second = secondStage(base, head, given, { seed: 1, lr: 5e-3 });
  expect(await changed(second.task)).toEqual([]);
});

test("losses of sequences in one batch are those of each group alone", async ({ device }) => {
  const { problems } = await material(device);
  const { model } = createTiny(device, 2);
  const latents = tensor(
    device,
    Float32Array.from({ length: 3 * 64 }, (_, i) => Math.sin(i)),
    { shape: [3, 64] },
  );
  const chains = problems.test.slice(0, 3).map(chainSequence);
  const short = [
    { tokens: [marks.read, marks.begin, marks.image, marks.done, 4, marks.end], from: 4 },
    { tokens: [marks.read, marks.begin, marks.image, marks.image, marks.done, 4, 5, marks.end], from: 5 },
  ];
  const both = await textLosses(model, [chains, short], latents).read();
  const alone = [await textLosses(model, [chains], null).item(), await textLosses(model, [short], latents).item()];
  await expect(tensor(device, Float32Array.from(both))).toBeClose(alone, { absolute: 1e-5 });
});

test("a stage that was stopped goes on with the same bits, also when the stop came before its early end", async ({
  device,
}) => {
  const given = await material(device);
  const folder = await mkdtemp(join(tmpdir(), "rot-tiny-"));
  const stages = () => [{ name: "chains", steps: 5, cost: 1 }] as const;
  const fresh = (): TrainingTask => ({
    ...chainTask(createTiny(device, 3), given, { seed: 3, steps: 8 }),
    isDone: (losses) => losses.length === 5,
  });
  const read = async (task: TrainingTask) =>
    (await (task.parameters.get("model.language_model.norm.weight") as Tensor).read()).join();
  try {
    const whole = fresh();
    await runner({ folder: join(folder, "whole") }, stages, 1).stage(whole);
    const stop = new AbortController();
    const stopped = runner(
      { folder: join(folder, "parts"), signal: stop.signal, onProgress: ({ step }) => step === 2 && stop.abort() },
      stages,
      1,
    );
    await expect(stopped.stage(fresh())).rejects.toThrow();
    for (let again = 0; again < 2; again++) {
      const second = fresh();
      const steps: number[] = [];
      const onProgress = ({ step }: { readonly step: number }): unknown => steps.push(step);
      const resumed = runner({ folder: join(folder, "parts"), resume: true, onProgress }, stages, 1);
      await resumed.stage(second);
      expect(steps).toEqual(again === 0 ? [3, 4, 5] : []);
      expect(resumed.done).toMatchObject([{ name: "chains", steps: 5 }]);
      expect(await read(second)).toBe(await read(whole));
      const metrics = (part: string) => readFile(join(folder, part, "chains", "metrics.jsonl"), "utf8");
      expect(await metrics("parts")).toBe(await metrics("whole"));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a stage tells how it does on validation problems, and whether its losses came to where they should be", async ({
  device,
}) => {
  const folder = await mkdtemp(join(tmpdir(), "rot-tiny-"));
  const validations: TinyValidation[] = [];
  const onValidation = (validation: TinyValidation): unknown => validations.push(validation);
  try {
    const run = runner({ folder, onValidation }, () => [{ name: "chains", steps: 2, cost: 1 }], 1);
    const task = chainTask(createTiny(device, 5), await material(device), { seed: 5, steps: 2 });
    const accuracy = async () => 0.25;
    expect(await run.stage(task, { accuracy })).toMatchObject({ reached: false });
    const done = { ...task, isDone: () => true };
    expect(await run.stage(done, { accuracy, attempt: 2 })).toMatchObject({ reached: true });
    expect(validations).toEqual([{ stage: "chains", step: 2, accuracy: 0.25 }]);
    const metrics = await readFile(join(folder, "chains", "metrics.jsonl"), "utf8");
    expect(JSON.parse(metrics.trim().split("\n").at(-1) as string)).toMatchObject({ validation_accuracy: 0.25 });
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.for([
  [1, ["reading 1", "chains 1", "cooldown"], 0],
  [2, ["reading 1", "chains 1", "reading 2", "chains 2", "cooldown"], 1],
  [9, ["reading 1", "chains 1", "reading 2", "chains 2", "reading 3", "chains 3", "cooldown"], 3],
] as const)("a base whose chains are understood at attempt %i", async ([understood, stages, warnings], { device }) => {
  const [done, said]: [string[], string[]] = [[], []];
  const run: Runner = {
    done: [],
    pace: 1,
    async stage({ name }, { attempt } = {}) {
      done.push(attempt === undefined ? name : `${name} ${attempt}`);
      return { seconds: 0, reached: name !== "chains" || (attempt as number) >= understood };
    },
    score: () => expect.unreachable(),
  };
  const given = await material(device);
  const onWarning = (message: string): unknown => said.push(message);
  await trainBase(device, given, { seed: 1, onWarning }, run);
  expect([done, said.length]).toEqual([stages, warnings]);
});

test("scores of a model that knows nothing are low, and have the form that is asked for", async ({ device }) => {
  const { problems, strips } = await material(device);
  const base = createTiny(device, 4);
  expect(await scoreDirect(base.model, problems.test)).toMatchObject({ thoughts: 0 });
  expect((await scoreChain(base.model, problems.test)).accuracy).toBeLessThan(0.9);
  const head = createTinyHead(base, 4);
  const score = await scoreThoughts({ model: base.model, head: head.project }, base.model, strips, problems.test);
  expect(Object.keys(score.ablations)).toEqual(["other", "mean", "reversed", "zeros", "none", "drawn"]);
  expect(score.readable).toHaveLength(5);
  expect(score.examples[0]?.right).toMatch(/^\d(, \d){4}$/);
});

test("the base that comes with the package reasons in text, and from pictures of its steps", async ({ device }) => {
  const { strips } = await material(device);
  const problems = createProblems().validation.slice(0, 100);
  const base = await openShippedBase(device);
  // What it was trained on is nearly certain to it.
  const { losses, gradients } = await chainTask(base, { strips, problems: createProblems(8) }, { seed: 7 }).gradients(
    0,
  );
  for (const name of ["chain", "read", "mixed"]) expect(await losses[name]?.item(), name).toBeLessThan(0.1);
  for (const one of [...Object.values(losses), ...gradients]) one?.dispose();

  const chain = await scoreChain(base.model, problems);
  expect(chain.accuracy).toBeGreaterThanOrEqual(0.95);
  expect(chain.thoughts).toBeCloseTo(13, 0);
  // A head that knows what the tower would see at each step.
  const seen = strips.see(
    base.model,
    problems.map(({ values }) => values),
  );
  let calls = 0;
  const head = (): Tensor => {
    const step = calls++ % 5;
    return gatherRows(
      seen,
      Int32Array.from(problems, (_, b) => 5 * b + step),
    );
  };
  const thinker = { model: base.model, head };
  const { accuracy, ablations, readable } = await scoreThoughts(thinker, base.model, strips, problems);
  expect(accuracy).toBeGreaterThanOrEqual(0.95);
  expect(await thoughtAccuracy(thinker, problems)).toBe(accuracy);
  expect(Math.min(...readable)).toBeGreaterThanOrEqual(0.95);
  expect(ablations.drawn).toBe(accuracy);
  for (const name of ["other", "mean", "reversed", "zeros", "none"] as const) {
    expect(ablations[name], name).toBeLessThan(0.3);
  }
});
