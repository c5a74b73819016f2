import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NumericError } from "@rot/models";
import {
  AdamW,
  type Device,
  grad,
  key,
  linearWithWarmup,
  randn,
  requireGrad,
  scope,
  type Tensor,
  tensor,
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
    await import("node:fs/promises").then(({ mkdir }) => mkdir(where));
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
  expect(outcome.best).toEqual({ step: 4, validation: 1 });
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
