import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NumericError } from "@rot/models";
import {
  AdamW,
  assign,
  type Device,
  grad,
  key,
  linearWithWarmup,
  randn,
  requireGrad,
  scope,
  type Tensor,
  tensor,
  untaped,
} from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterEach, beforeEach } from "vitest";
import { latestCheckpoint, listCheckpoints } from "./checkpoint-folder.ts";
import { runTask, type RunOptions } from "./run-task.ts";
import type { TrainingTask } from "./task.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-run-"));
});
afterEach(() => rm(folder, { recursive: true }));

const STEPS = 12;

/** Fits a matrix to noise that depends on the step. */
function fit(device: Device, more: Partial<TrainingTask> = {}): TrainingTask & { readonly parameter: Tensor } {
  const parameter = requireGrad(randn(device, [4, 5], { seed: 1 }));
  return {
    name: "fit",
    parameter,
    parameters: new Map([["weight", parameter]]),
    steps: STEPS,
    optimizer: { lr: 0.1, schedule: linearWithWarmup({ warmup: 2, total: STEPS }), maxGradNorm: 0.5 },
    gradients: (step) =>
      scope(() => {
        const loss = parameter
          .sub(randn(device, [4, 5], { seed: key(2).for("noise", step) }))
          .square()
          .mean();
        return { losses: { loss }, gradients: grad(loss, [parameter]), counts: { samples: 3 } };
      }),
    ...more,
  };
}

const bits = async ({ parameter }: { readonly parameter: Tensor }) =>
  Buffer.from((await parameter.read()).buffer).toString("hex");
const metricsOf = (where: string) => readFile(join(where, "metrics.jsonl"), "utf8");
const latest = async (where: string) =>
  (await latestCheckpoint(join(where, "checkpoints"), (message) => expect.unreachable(message)))?.path as string;

test("a run that was stopped after any step goes on with the same bits, metrics too", async ({ device }) => {
  const whole = fit(device);
  await runTask(whole, { folder });
  const [want, wantMetrics] = [await bits(whole), await metricsOf(folder)];
  for (let k = 1; k < STEPS; k++) {
    const where = join(folder, String(k));
    await mkdir(where);
    const stop = new AbortController();
    const onStep: RunOptions["onStep"] = ({ step }) => step === k && stop.abort();
    const first = await runTask(fit(device), { folder: where, signal: stop.signal, onStep });
    expect([first.end, first.step]).toEqual(["stopped", k]);
    const second = fit(device);
    const outcome = await runTask(second, { folder: where, resume: await latest(where) });
    expect([outcome.end, outcome.step]).toEqual(["finished", STEPS]);
    expect(await bits(second), `stopped after ${k}`).toBe(want);
    expect(await metricsOf(where), `stopped after ${k}`).toBe(wantMetrics);
  }
});

test("metrics hold a line a step, with losses, rate, norm and sums; a clock's numbers stand elsewhere", async ({
  device,
}) => {
  await runTask(fit(device), { folder });
  const rows = (await metricsOf(folder))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(rows).toHaveLength(STEPS);
  expect(rows[0]).toMatchObject({ step: 1, task: "fit", learning_rate: 0, samples: 3, total_samples: 3 });
  expect(rows.at(-1)).toMatchObject({ step: STEPS, total_samples: 3 * STEPS });
  expect(Object.keys(rows[0] as object)).toEqual(expect.arrayContaining(["loss", "gradient_norm"]));
  expect((await readFile(join(folder, "timing.jsonl"), "utf8")).split("\n")).toHaveLength(STEPS + 1);
});

test("checkpoints come every n steps and at the end; the last ones and the best stay", async ({ device }) => {
  const values = [5, 1, 4, 3, 2, 6];
  const task = fit(device, { validate: async () => ({ validation: values.shift() as number, accuracy: 0.5 }) });
  const outcome = await runTask(task, { folder, checkpointEvery: 2, validateEvery: 2, keep: { last: 2 } });
  expect(outcome.best).toEqual({ step: 4, validation: 1, accuracy: 0.5 });
  expect(await listCheckpoints(join(folder, "checkpoints"))).toEqual([4, 10, 12]);
  expect(await metricsOf(folder)).toContain('{"step":4,"task":"fit","validation":1,"validation_accuracy":0.5}');
});

test("it ends early when validation gets no better, or when the task says so", async ({ device }) => {
  const values = [3, 2, 4, 5, 6, 7];
  const task = fit(device, { validate: async () => ({ validation: values.shift() as number }) });
  expect(await runTask(task, { validateEvery: 2, patience: 2 })).toMatchObject({ step: 8, end: "early" });
  const done = fit(device, { isDone: (losses) => losses.length === 5 });
  expect(await runTask(done)).toMatchObject({ step: 5, end: "early" });
});

test("the best may be that of the accuracy: of equal ones the smaller loss, and never a loss that is no number", async ({
  device,
}) => {
  const results = [
    { validation: NaN, accuracy: 0.9 },
    { validation: 3, accuracy: 0.25 },
    { validation: 1, accuracy: 0 },
    { validation: 2, accuracy: 0.25 },
    { validation: 4, accuracy: 0.5 },
    { validation: 4, accuracy: 0.5 },
  ];
  const at = async (metricForBestModel: "loss" | "accuracy", patience: number) => {
    const left = [...results];
    const task = fit(device, { validate: async () => left.shift() as (typeof results)[number] });
    return runTask(task, { validateEvery: 2, metricForBestModel, patience });
  };
  expect(await at("accuracy", 2)).toMatchObject({
    end: "finished",
    best: { step: 10, validation: 4, accuracy: 0.5 },
  });
  expect(await at("loss", 2)).toMatchObject({ end: "early", step: 10, best: { step: 6, validation: 1, accuracy: 0 } });
});

test("a validation that the signal ends is done after the resume, and all is as if it had never been stopped", async ({
  device,
}) => {
  const validating = (stop?: AbortController) => {
    const task = fit(device, { validate });
    async function validate(signal?: AbortSignal) {
      stop?.abort();
      signal?.throwIfAborted();
      return { validation: await task.parameter.square().mean().item(), accuracy: 0.5 };
    }
    return task;
  };
  const options: RunOptions = { folder, validateEvery: 6, checkpointEvery: 4 };
  const whole = validating();
  await runTask(whole, options);
  const [want, wantMetrics] = [await bits(whole), await metricsOf(folder)];
  const state = async (where: string) => readFile(join(await latest(where), "training.json"), "utf8");
  expect(wantMetrics.match(/"validation"/g)).toHaveLength(2);

  const where = join(folder, "stopped");
  await mkdir(where);
  const stopped = { ...options, folder: where };
  // Stopped in the first validation, in its repetition, and in the one after the last step.
  const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
  const begun = await runTask(validating(first), { ...stopped, signal: first.signal });
  expect([begun.end, begun.step, begun.best]).toEqual(["stopped", 6, null]);
  expect(await state(where)).toContain('"validationDue": true');
  const again = await runTask(validating(second), { ...stopped, resume: await latest(where), signal: second.signal });
  expect([again.end, again.step, again.done]).toEqual(["stopped", 6, 0]);
  // A kill between the line of a late validation and its checkpoint leaves the line.
  await appendFile(join(where, "metrics.jsonl"), '{"step":6,"task":"fit","validation":9}\n');
  let calls = 0;
  const task = validating();
  const late: TrainingTask = {
    ...task,
    validate: async (signal) => {
      if (++calls === 2) third.abort();
      signal?.throwIfAborted();
      return (await task.validate?.()) as { validation: number };
    },
  };
  const last = await runTask(late, { ...stopped, resume: await latest(where), signal: third.signal });
  expect([last.end, last.step]).toEqual(["stopped", STEPS]);
  const end = validating();
  const outcome = await runTask(end, { ...stopped, resume: await latest(where) });
  expect([outcome.end, outcome.step, outcome.done]).toEqual(["finished", STEPS, 0]);
  expect(await bits(end)).toBe(want);
  expect(await metricsOf(where)).toBe(wantMetrics);
  expect(await state(where)).toBe(await state(folder));
});

test("groups have their own rate and decay, under one schedule, wherever they stand among the parameters", async ({
  device,
}) => {
  const make = () => [1, 2, 3].map((seed) => requireGrad(randn(device, [4], { seed })));
  const gradients = () => [1, 2, 3].map((seed) => randn(device, [4], { seed: key(7).for("g", seed) }));
  const [a, b] = [make(), make()];
  const task: TrainingTask = {
    ...fit(device, { steps: 2 }),
    parameters: new Map(["x", "rows", "y"].map((name, i) => [name, a[i] as Tensor])),
    optimizer: {
      lr: 0.1,
      schedule: (step) => 1 / (step + 1),
      weightDecay: 0.2,
      groups: [{ names: new Set(["rows"]), lr: 0.5, weightDecay: 0 }],
    },
    gradients: () => ({ losses: { loss: tensor(device, 1) }, gradients: gradients(), counts: {} }),
  };
  const reports: number[] = [];
  await runTask(task, { folder, onStep: ({ learningRate }) => reports.push(learningRate) });
  expect(reports).toEqual([0.1, 0.05]);
  const alone = (i: number, lr: number, weightDecay: number) => new AdamW([b[i] as Tensor], { lr, weightDecay });
  const optimizers = [alone(0, 0.1, 0.2), alone(1, 0.5, 0), alone(2, 0.1, 0.2)];
  for (const share of [1, 0.5]) {
    for (const [i, optimizer] of optimizers.entries()) {
      optimizer.lr = [0.1, 0.5, 0.1][i]! * share;
      optimizer.step([gradients()[i] as Tensor]);
    }
  }
  for (const [i, parameter] of a.entries()) expect(await parameter.read()).toEqual(await b[i]?.read());
});

test("NaN ends the run before the step, names what is bad first, and leaves parameters and checkpoints as they were", async ({
  device,
}) => {
  const before = fit(device);
  const stop = new AbortController();
  await runTask(before, { folder, signal: stop.signal, onStep: () => stop.abort() });
  const path = await latest(folder);
  const inGradient: TrainingTask["gradients"] = () => {
    const loss = tensor(device, 1);
    return {
      losses: { loss },
      gradients: [
        tensor(
          device,
          Float32Array.from({ length: 20 }, (_, i) => (i === 7 ? NaN : 1)),
          { shape: [4, 5] },
        ),
      ],
      counts: {},
    };
  };
  const inLoss: TrainingTask["gradients"] = () => {
    const result = inGradient(1) as { losses: { loss: Tensor }; gradients: Tensor[]; counts: object };
    return {
      losses: { loss: tensor(device, 1), vision: tensor(device, Infinity) },
      gradients: result.gradients,
      counts: {},
    };
  };
  for (const [gradients, message] of [
    [inGradient, /fit: at step 2 the gradient of weight is not finite; the step was not applied/],
    [inLoss, /fit: at step 2 the loss "vision" is Infinity/],
  ] as const) {
    const task = fit(device, { gradients });
    const error = await runTask(task, { folder, resume: path }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NumericError);
    expect((error as Error).message).toMatch(message);
    expect(await bits(task)).toBe(await bits(before));
    expect(await latest(folder)).toBe(path);
  }
  const sick = fit(device);
  untaped(() => assign(sick.parameter, sick.parameter.mul(NaN)));
  await expect(runTask(sick)).rejects.toThrow(
    /fit: at step 1 the loss "loss" is NaN, for the parameter weight is not finite; the step was not applied/,
  );
});

test("a checkpoint of another task, or of other parameters, is refused", async ({ device }) => {
  await runTask(fit(device), { folder });
  const path = await latest(folder);
  await expect(runTask(fit(device, { name: "other" }), { resume: path })).rejects.toThrow(
    "is a checkpoint of fit, not of other",
  );
  const other = requireGrad(randn(device, [2], { seed: 1 }));
  await expect(runTask(fit(device, { parameters: new Map([["weight", other]]) }), { resume: path })).rejects.toThrow(
    /weight/,
  );
  await writeFile(join(path, "training.json"), '{"format": 9}');
  await expect(runTask(fit(device), { resume: path })).rejects.toThrow("has format 9");
});

test("the optimizer of a run is AdamW: one step by hand gives the same", async ({ device }) => {
  const [a, b] = [fit(device, { steps: 1 }), fit(device)];
  await runTask({ ...a, optimizer: { lr: 0.1, schedule: () => 1, weightDecay: 0.2, betas: [0.8, 0.9] } });
  const { gradients } = await b.gradients(0);
  using optimizer = new AdamW([b.parameter], { lr: 0.1, weightDecay: 0.2, betas: [0.8, 0.9] });
  optimizer.step(gradients);
  expect(await bits(a)).toBe(await bits(b));
});
