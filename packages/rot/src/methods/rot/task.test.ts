import { createLora, describeModel, buildModel, randomModel, weightsOf } from "@rot/models";
import { assign, constant, type Device, key, randn, requireGrad, type Tensor, tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { trainMarkers } from "../../bundle/trained-markers.ts";
import type { StepGradients } from "../../train/task.ts";
import { createHead, projectionHead } from "./head.ts";
import type { StepOptions } from "./step.ts";
import { latentTask, type StageOptions, textTask } from "./task.ts";

const json = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../../../models/test/golden/qwen3vl_tiny/config.json"), "utf8"),
) as unknown;
const V = 900;
const D = (json as { text_config: { hidden_size: number } }).text_config.hidden_size;

/** Samples of unequal lengths, as numbers drawn from their own. */
const samples = Array.from({ length: 8 }, (_, n) => ({
  question: Int32Array.from({ length: 3 + ((n * 5) % 7) }, (_, i) => (n * 31 + i * 17) % V),
  answer: Int32Array.from({ length: 1 + ((n * 3) % 5) }, (_, i) => (n * 13 + i * 7) % V),
}));
/** How many latents a sample has. */
const latents = (n: number): number => 1 + ((n * 7) % 6);
const target = (device: Device, n: number): Tensor => randn(device, [latents(n), D], { seed: key(5).for("t", n) });

function open(device: Device) {
  const { model } = randomModel(json, device, { seed: 1, dtype: "f32", std: 0.1 });
  const parameters = createHead({ width: D, hidden: 24, activation: "swiglu" }, device, 2);
  for (const parameter of parameters.values()) requireGrad(parameter);
  const head = projectionHead(weightsOf(parameters, device), { width: D, hidden: 24, activation: "swiglu" });
  return { model, parameters, head };
}

const step = (weighting: StepOptions["weighting"]): StepOptions => ({
  trainsDecoder: false,
  loss: "mse_only",
  weights: { vision: 10, language: 1 },
  weighting,
});
const stage = (device: Device, batchSize: number): Omit<StageOptions, "model" | "parameters"> => ({
  name: "stage1",
  data: {
    samples,
    counts: samples.map((_, n) => latents(n)),
    targets: async (numbers) => numbers.map((n) => target(device, n)),
  },
  batchSize,
  accumulation: 8 / batchSize,
  steps: 1,
  optimizer: { lr: 1e-3, schedule: constant },
  seed: 3,
});

async function numbersOf({ losses, gradients }: StepGradients) {
  let squares = 0;
  for (const gradient of gradients) for (const value of (await gradient?.read()) ?? []) squares += Number(value) ** 2;
  const loss = Object.fromEntries(
    await Promise.all(Object.entries(losses).map(async ([name, value]) => [name, await value.item()] as const)),
  );
  return { ...loss, norm: Math.sqrt(squares) } as Record<string, number>;
}

function expectSame(got: Record<string, number>, want: Record<string, number>, what: string): void {
  for (const [name, value] of Object.entries(want)) {
    expect(Math.abs((got[name] as number) - value), `${what}: ${name}`).toBeLessThanOrEqual(1e-5 * Math.abs(value));
  }
}

test.for(["sample", "token"] as const)(
  "stage 1: batches of 1, 2 and 4, added up, are one batch of 8: weights by %s",
  async (weighting, { device }) => {
    const { model, parameters, head } = open(device);
    const at = (batchSize: number) =>
      latentTask({ ...stage(device, batchSize), model, parameters, head, step: step(weighting) }).gradients(0);
    const whole = await numbersOf(await at(8));
    expect(whole["norm"]).toBeGreaterThan(0);
    for (const batchSize of [1, 2, 4])
      expectSame(await numbersOf(await at(batchSize)), whole, `batches of ${batchSize}`);
  },
);

test("the two weightings differ, as lengths do", async ({ device }) => {
  const { model, parameters, head } = open(device);
  const [bySample, byToken] = await Promise.all(
    (["sample", "token"] as const).map(async (weighting) =>
      numbersOf(await latentTask({ ...stage(device, 8), model, parameters, head, step: step(weighting) }).gradients(0)),
    ),
  );
  expect(Math.abs((bySample?.["loss"] as number) - (byToken?.["loss"] as number))).toBeGreaterThan(1e-3);
});

/** A model with adapters whose B is not zero. */
function adapted(device: Device, dropout: number) {
  const description = describeModel(json);
  const { weights } = randomModel(json, device, { seed: 1, dtype: "f32", std: 0.1 });
  const lora = createLora(
    { r: 2, alpha: 4, dropout, targetModules: ["q_proj", "v_proj"] },
    description.architecture.linears,
    device,
    { seed: 4 },
  );
  for (const [name, parameter] of lora.parameters) {
    assign(parameter, randn(device, parameter.shape, { std: 0.1, seed: key(6).for(name) }));
    requireGrad(parameter);
  }
  return { ...buildModel(description, weights, device, lora), lora };
}

test("stage 2: batches of 1, 2 and 4, added up, are one batch of 8, also with dropout", async ({ device }) => {
  const { head } = open(device);
  const { model, lora } = adapted(device, 0.3);
  const at = (batchSize: number) =>
    latentTask({
      ...stage(device, batchSize),
      model,
      parameters: lora.parameters,
      lora,
      head,
      step: { ...step("sample"), trainsDecoder: true, weights: { vision: 1, language: 1 } },
    }).gradients(0);
  const whole = await numbersOf(await at(8));
  for (const batchSize of [1, 4]) expectSame(await numbersOf(await at(batchSize)), whole, `batches of ${batchSize}`);
});

test("what is computed again on the way back, and a head on the tape with a decoder, change no gradient", async ({
  device,
}) => {
  const { head, parameters } = open(device);
  const { model, lora } = adapted(device, 0.3);
  const at = (more: Partial<StepOptions>) =>
    latentTask({
      ...stage(device, 8),
      model,
      parameters: new Map([...lora.parameters, ...parameters]),
      lora,
      head,
      step: { ...step("token"), trainsDecoder: true, ...more },
    }).gradients(0);
  const [plain, again] = [await at({}), await at({ recompute: true })];
  for (const [i, gradient] of plain.gradients.entries()) {
    expect(await again.gradients[i]?.read()).toEqual(await (gradient as Tensor).read());
  }
  // The head alone, as stage 1 does it.
  const alone = latentTask({ ...stage(device, 8), model, parameters, head, step: step("token") });
  const joint = latentTask({
    ...stage(device, 8),
    model,
    parameters,
    head,
    step: { ...step("token"), trainsDecoder: true },
  });
  expectSame(await numbersOf(await joint.gradients(0)), await numbersOf(await alone.gradients(0)), "of the head");
});

test("weights that learn: batches of 1 and 4, added up, are one batch of 8, on either way to the gradients", async ({
  device,
}) => {
  const { model, parameters, head } = open(device);
  const [vision, language] = [0.3, -0.2].map((value) => requireGrad(tensor(device, [value]))) as [Tensor, Tensor];
  const learns = new Map([...parameters, ["vision", vision] as const, ["language", language] as const]);
  const at = async (batchSize: number, trainsDecoder: boolean) => {
    const weights = { logVarianceVision: vision, logVarianceLanguage: language };
    const options = { ...stage(device, batchSize), model, parameters: learns, head };
    const result = await latentTask({ ...options, step: { ...step("sample"), weights, trainsDecoder } }).gradients(0);
    const slopes = await Promise.all(result.gradients.slice(-2).map((slope) => (slope as Tensor).item()));
    return { ...(await numbersOf(result)), ofVision: slopes[0] as number, ofLanguage: slopes[1] as number };
  };
  const whole = await at(8, false);
  for (const [batchSize, trainsDecoder] of [
    [1, false],
    [4, true],
  ] as const) {
    expectSame(await at(batchSize, trainsDecoder), whole, `batches of ${batchSize}`);
  }
});

test("markers that learn are read where they were put, by steps and by validation", async ({ device }) => {
  const markers = { own: true, begin: 7, end: 9, vocabulary: V };
  const marked = samples.slice(0, 2).map(({ question, answer }) => ({
    question: Int32Array.of(...question, markers.begin),
    answer: Int32Array.of(markers.end, ...answer),
  }));
  /** Changes the rows before or after the task is made. */
  const at = async (when: "before" | "after") => {
    const pretrained = randomModel(json, device, { seed: 1, dtype: "f32", std: 0.1 });
    const { head } = open(device);
    const { parameters, rows, place } = trainMarkers(pretrained, markers);
    const change = (): void => {
      for (const row of parameters.values()) untaped(() => assign(row, row.mul(3)));
    };
    if (when === "before") {
      change();
      place();
    }
    const options = stage(device, 2);
    const data = { ...options.data, samples: marked, counts: options.data.counts.slice(0, 2) };
    const task = latentTask({
      ...options,
      accumulation: 1,
      data,
      validation: data,
      model: pretrained.model,
      parameters,
      head,
      step: { ...step("sample"), trainsDecoder: true, tokenRows: rows },
      ...(when === "after" && { place }),
    });
    if (when === "after") change();
    const validated = await task.validate?.();
    if (when === "after") change();
    else {
      change();
      place();
    }
    return [validated, await numbersOf(await task.gradients(0))];
  };
  expect(await at("after")).toEqual(await at("before"));
});

test("text: batches of 1, 2 and 4, added up, are one batch of 8", async ({ device }) => {
  const { model, lora } = adapted(device, 0);
  const at = (batchSize: number) =>
    textTask({
      ...stage(device, batchSize),
      model,
      parameters: lora.parameters,
      step: { weighting: "token" },
    }).gradients(0);
  const whole = await numbersOf(await at(8));
  for (const batchSize of [1, 2, 4]) expectSame(await numbersOf(await at(batchSize)), whole, `batches of ${batchSize}`);
});

test.for(["sample", "token"] as const)(
  "validation is the mean over its samples, whatever the batches: by %s",
  async (weighting, { device }) => {
    const { model, parameters, head } = open(device);
    const of = async (batchSize: number) => {
      const options = stage(device, batchSize);
      const validation = { ...options.data, samples: samples.slice(0, 5), counts: options.data.counts.slice(0, 5) };
      return (await latentTask({
        ...options,
        validation,
        model,
        parameters,
        head,
        step: step(weighting),
      }).validate?.()) as Record<string, number>;
    };
    const all = await of(8);
    expectSame(await of(2), all, "batches of 2");
    expect(all["validation"]).toBeCloseTo(10 * (all["vision"] as number) + (all["language"] as number), 3);
  },
);
