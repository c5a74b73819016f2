/** Render-of-Thought against the published code on a tiny checkpoint: targets, losses, gradients, trained weights, latents. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  buildModel,
  describeModel,
  fetchImageSize,
  type Lora,
  loraFrom,
  type Pretrained,
  resize,
  toRgb,
  weightsOf,
} from "@rot/models";
import { loadChatTemplate, loadImage, loadImageProcessor, loadTokenizer, readJson } from "@rot/models/node";
import {
  AdamW,
  clipGradNorm,
  concat,
  type Device,
  linearWithWarmup,
  requireGrad,
  type Tensor,
  tensor,
  untaped,
} from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import {
  checkpointTensors,
  goldenFolder,
  GoldenFile,
  json,
  toleranceOf,
} from "../../models/test/tools/golden-folder.ts";
import type { LatentLossName } from "./latent/losses.ts";
import { rolled, rollOut } from "./latent/rollout.ts";
import { combine } from "./methods/rot/combine.ts";
import { type HeadConfig, type ProjectionHead, projectionHead } from "./methods/rot/head.ts";
import { answerTokens, questionTokens } from "./methods/rot/prompt.ts";
import { rotStep, type StepOptions, type TrainingSample } from "./methods/rot/step.ts";

interface Sample {
  readonly question: string;
  readonly cot: string;
  readonly answer: string;
  readonly latents: number;
  readonly grid_thw: readonly (readonly number[])[];
  readonly resized28_wh: readonly [number, number];
}
interface Losses {
  readonly loss: number;
  readonly vision_loss: number;
  readonly lm_loss: number;
}
interface Training {
  readonly settings: {
    readonly lr: number;
    readonly weight_decay: number;
    readonly warmup: number;
    readonly total: number;
    readonly max_grad_norm: number;
    readonly batches: readonly (readonly (readonly number[])[])[];
  };
  readonly steps: readonly {
    readonly lr: number;
    readonly micro: readonly ({ readonly samples: readonly number[] } & Losses)[];
    readonly grad_norm_before_clip: number;
  }[];
}
interface Index {
  readonly samples: readonly Sample[];
  readonly ids: Readonly<Record<string, number>>;
  readonly vocab_after_resize: number;
  readonly published_limits: { readonly shortest_edge: number; readonly longest_edge: number; readonly sample: number };
  readonly stage1_forward: {
    readonly batch: readonly number[];
    readonly vision_weight: number;
    readonly lm_weight: number;
    readonly losses: Readonly<Record<string, Losses>>;
    readonly uncertainty_weighting: {
      readonly log_var_vision: number;
      readonly log_var_lm: number;
      readonly total: number;
    };
  };
  readonly stage1_train: Readonly<Record<string, Training>>;
  readonly stage2_first: Losses;
  readonly stage2_train: Training;
  readonly lora: { readonly r: number; readonly alpha: number; readonly targets: readonly string[] };
}

const folder = goldenFolder("rot");
const own = join(import.meta.dirname, "../test/golden/rot");
const golden = existsSync(folder) ? folder : own;
const base = goldenFolder("qwen3vl_tiny");
const index = json<Index>(golden, "index.json");
const tolerance = toleranceOf(golden);
/** After steps of Adam, as the README states it. */
const trainedTolerance = 1e-3;

/** The tiny model with the markers at the end of its table, which shrinks or grows to hold them. */
async function open(device: Device, adapters?: string) {
  const setup = await GoldenFile.open(golden, "setup.safetensors");
  const parameters = await checkpointTensors(device, base);
  const config = (await readJson(join(base, "config.json"))) as { text_config: object };
  const rows = index.vocab_after_resize;
  const markers = Object.keys(index.ids);
  const key = "model.language_model.embed_tokens.weight";
  const table = parameters.get(key) as Tensor;
  const added = await Promise.all(markers.map((name) => setup.device(device, `token.${name}`)));
  parameters.set(key, concat([table.slice([0, rows - markers.length]), ...added.map((row) => row.reshape(1, -1))]));
  const description = describeModel({ ...config, text_config: { ...config.text_config, vocab_size: rows } });
  let lora: Lora | null = null;
  if (adapters) {
    const file = await GoldenFile.open(golden, adapters);
    const tensors = new Map<string, Tensor>();
    for (const name of file.keys) tensors.set(name, await file.device(device, name));
    const { r, alpha, targets } = index.lora;
    lora = loraFrom({ r, alpha, targetModules: targets }, description.architecture.linears, tensors, adapters);
  }
  const pretrained: Pretrained = buildModel(description, parameters, device, lora);
  return { ...pretrained, head: await openHead(device, setup), samples: await samplesOf(device, setup) };
}

async function openHead(
  device: Device,
  file: GoldenFile,
): Promise<{ readonly parameters: Map<string, Tensor>; readonly head: ProjectionHead }> {
  const parameters = new Map<string, Tensor>();
  for (const key of file.keys) {
    if (key.startsWith("head.")) parameters.set(key.slice(5), await file.device(device, key));
  }
  const [hidden, width] = (parameters.get("1.weight") as Tensor).shape as [number, number];
  const config: HeadConfig = { width, hidden, activation: "swiglu" };
  return { parameters, head: projectionHead(weightsOf(parameters, device), config) };
}

async function samplesOf(device: Device, setup: GoldenFile): Promise<TrainingSample[]> {
  const tokenizer = await loadTokenizer(base);
  tokenizer.addTokens(Object.keys(index.ids));
  const text = { tokenizer, template: await loadChatTemplate(base, tokenizer) };
  const markers = { begin: index.ids["<img_begin>"] as number, end: index.ids["<img_end>"] as number };
  return Promise.all(
    index.samples.map(async ({ question, answer }, i) => ({
      question: questionTokens(text, question, markers),
      answer: answerTokens(text, answer, markers, "reference"),
      target: await setup.device(device, `target.${i}`),
    })),
  );
}

const stage1 = (loss: string): StepOptions => ({
  trainsDecoder: false,
  loss: loss as LatentLossName,
  weights: { vision: index.stage1_forward.vision_weight, language: index.stage1_forward.lm_weight },
  weighting: "sample",
});
const stage2: StepOptions = {
  trainsDecoder: true,
  loss: "mse_only",
  weights: { vision: 0, language: 1 },
  weighting: "sample",
};

const near = (got: number, want: number, relative: number, what: string): void => {
  expect(Math.abs(got - want), `${what}: ${got}, not ${want}`).toBeLessThanOrEqual(relative * Math.abs(want));
};

const largestOf = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Compares a tensor to within the tolerance of its largest value, below which rounding hides what a value was. */
async function expectClose(got: Tensor, want: ArrayLike<number>, what: string): Promise<void> {
  await expect(got, what).toBeClose(want, { absolute: Math.max(tolerance * largestOf(want), 1e-7) });
}

test("the teacher: both resizes, the tower, and one target a merged patch", async ({ device }) => {
  const { model } = await open(device);
  const setup = await GoldenFile.open(golden, "setup.safetensors");
  const processor = await loadImageProcessor(base, { resize: "torchvision" });
  for (const [i, sample] of index.samples.entries()) {
    const drawn = toRgb(await loadImage(join(golden, "images", `${i}_rendered.png`)));
    const small = resize(drawn, fetchImageSize(drawn), "pil");
    expect([small.width, small.height]).toEqual(sample.resized28_wh);
    const { pixelValues, patchLength, imageGridThw } = processor.process([small]);
    expect(imageGridThw).toEqual(sample.grid_thw);
    const { tokens } = untaped(() =>
      model.imageFeatures(
        tensor(device, pixelValues, { shape: [pixelValues.length / patchLength, patchLength] }),
        imageGridThw,
      ),
    );
    expect(tokens.shape[0]).toBe(sample.latents);
    const want = await setup.host(`target.${i}`);
    await expectClose(tokens, want.values, `target.${i}`);
  }
});

test("the student's tokens are those of the published code", async ({ device }) => {
  const detail = await GoldenFile.open(golden, "stage1_detail.safetensors");
  const { samples } = await open(device);
  for (const i of index.stage1_forward.batch) {
    const { question, answer } = samples[i] as TrainingSample;
    const ids = Array.from((await detail.host(`${i}.question_ids`)).values);
    expect([...question], `${i}.question_ids`).toEqual([...ids, index.ids["<img_begin>"]]);
    expect([...answer], `${i}.answer_ids`).toEqual([
      index.ids["<img_end>"],
      ...Array.from((await detail.host(`${i}.answer_ids`)).values),
    ]);
  }
});

test("the roll-out of a batch gives each sample's own hidden states and predictions", async ({ device }) => {
  const detail = await GoldenFile.open(golden, "stage1_detail.safetensors");
  const { model, head, samples } = await open(device);
  const batch = index.stage1_forward.batch.map((i) => samples[i] as TrainingSample);
  const counts = batch.map(({ target }) => target.shape[0] as number);
  const steps = rollOut(
    model,
    head.head,
    batch.map(({ question }) => question),
    counts,
  );
  for (const what of ["hidden", "predicted"] as const) {
    const got = rolled(what === "hidden" ? steps.hidden : steps.latents, steps.rows);
    const want: number[] = [];
    for (const i of index.stage1_forward.batch) want.push(...Array.from((await detail.host(`${i}.${what}`)).values));
    await expectClose(got, want, what);
  }
});

test.for(Object.keys(index.stage1_forward.losses))("stage 1: losses under %s", async (name, { device }) => {
  const { model, head, samples } = await open(device);
  const batch = index.stage1_forward.batch.map((i) => samples[i] as TrainingSample);
  const parameters = [...head.parameters.values()].map((parameter) => requireGrad(parameter));
  const only = { vision_only: { vision: 1, language: 0 }, lm_only: { vision: 0, language: 1 } }[name];
  const options = { ...stage1(only ? "mse_only" : name), ...(only && { weights: only }) };
  const result = rotStep(model, head.head, batch, parameters, options);
  const want = index.stage1_forward.losses[name] as Losses;
  near(await result.loss.item(), want.loss, tolerance, "loss");
  near(await result.vision.item(), want.vision_loss, tolerance, "vision_loss");
  near(await result.language.item(), want.lm_loss, tolerance, "lm_loss");

  const grads = await GoldenFile.open(golden, "stage1_grads.safetensors");
  for (const [i, key] of [...head.parameters.keys()].entries()) {
    if (!grads.has(`${name}.${key}`)) continue;
    const { values } = await grads.host(`${name}.${key}`);
    await expectClose(result.gradients[i] as Tensor, values, `gradient of ${key}`);
  }
});

test("uncertainty weighting adds the parts up as the published code means to", async ({ device }) => {
  const { losses, uncertainty_weighting: want } = index.stage1_forward;
  const { vision_loss, lm_loss } = losses["mse_only"] as Losses;
  const scalar = (value: number): Tensor => tensor(device, value);
  const { loss } = combine(scalar(vision_loss), scalar(lm_loss), {
    logVarianceVision: tensor(device, [want.log_var_vision]),
    logVarianceLanguage: tensor(device, [want.log_var_lm]),
  });
  near(await loss.item(), want.total, tolerance, "total");
});

/** Trains as the golden run did, and compares every step. */
async function train(
  { settings, steps }: Training,
  opened: Awaited<ReturnType<typeof open>>,
  parameters: readonly Tensor[],
  options: StepOptions,
): Promise<void> {
  const optimizer = new AdamW(parameters, { lr: settings.lr, weightDecay: settings.weight_decay });
  const schedule = linearWithWarmup(settings);
  for (const [i, want] of steps.entries()) {
    optimizer.lr = settings.lr * schedule(i);
    near(optimizer.lr, want.lr, 1e-9, `step ${i}: lr`);
    let total: (Tensor | null)[] = parameters.map(() => null);
    for (const [m, micro] of want.micro.entries()) {
      const batch = (settings.batches[i]?.[m] ?? []).map((sample) => opened.samples[sample] as TrainingSample);
      const result = rotStep(opened.model, opened.head.head, batch, parameters, options);
      const relative = i === 0 ? tolerance : trainedTolerance;
      near(await result.loss.item(), micro.loss, relative, `step ${i}, batch ${m}: loss`);
      near(await result.vision.item(), micro.vision_loss, relative, `step ${i}, batch ${m}: vision_loss`);
      near(await result.language.item(), micro.lm_loss, relative, `step ${i}, batch ${m}: lm_loss`);
      total = total.map((sum, p) => {
        const part = (result.gradients[p] as Tensor).div(want.micro.length);
        return sum ? sum.add(part) : part;
      });
    }
    const norm = clipGradNorm(total, settings.max_grad_norm);
    near(await norm.item(), want.grad_norm_before_clip, i === 0 ? tolerance : trainedTolerance, `step ${i}: grad norm`);
    optimizer.step(total);
  }
}

/** Nearly all weights agree; where Adam divides by a root near 0 a single one may have gone the other way. */
async function compareTrained(
  got: Tensor,
  want: ArrayLike<number>,
  { lr }: Training["settings"],
  steps: number,
  key: string,
): Promise<void> {
  const values = await got.read();
  let off = 0;
  const largest = largestOf(want);
  for (const [i, value] of values.entries()) {
    const difference = Math.abs(Number(value) - (want[i] as number));
    expect(difference, `${key}[${i}]`).toBeLessThanOrEqual(2 * lr * steps);
    if (difference > trainedTolerance * largest) off++;
  }
  expect(off, `${key}: weights that differ`).toBeLessThanOrEqual(Math.max(1, values.length / 100));
}

test.for(Object.keys(index.stage1_train))("stage 1: steps under %s", async (name, { device }) => {
  const opened = await open(device);
  const training = index.stage1_train[name] as Training;
  const { parameters } = opened.head;
  await train(
    training,
    opened,
    [...parameters.values()].map((parameter) => requireGrad(parameter)),
    stage1(name),
  );
  const file = await GoldenFile.open(golden, `stage1_${name}_final.safetensors`);
  for (const [key, parameter] of parameters) {
    await compareTrained(
      parameter,
      (await file.host(`head.${key}`)).values,
      training.settings,
      training.steps.length,
      key,
    );
  }
});

/** The head that stage 2 begins with: that of stage 1. */
async function openStage2(device: Device) {
  const opened = await open(device, "stage2_lora_init.safetensors");
  const head = await openHead(device, await GoldenFile.open(golden, "stage1_mse_only_final.safetensors"));
  const adapters = (opened.lora as Lora).parameters;
  for (const parameter of adapters.values()) requireGrad(parameter);
  return { ...opened, head, adapters };
}

test("stage 2: the first losses and gradients of the adapters", async ({ device }) => {
  const { model, head, adapters, samples } = await openStage2(device);
  const result = rotStep(model, head.head, [samples[0] as TrainingSample], [...adapters.values()], stage2);
  near(await result.loss.item(), index.stage2_first.loss, tolerance, "loss");
  near(await result.vision.item(), index.stage2_first.vision_loss, tolerance, "vision_loss");
  const grads = await GoldenFile.open(golden, "stage2_first_grads.safetensors");
  for (const [i, key] of [...adapters.keys()].entries()) {
    const name = key.replace(/\.weight$/, ".default.weight");
    const { values } = await grads.host(name);
    await expectClose(result.gradients[i] as Tensor, values, `gradient of ${key}`);
  }
});

test("stage 2: steps of the adapters", async ({ device }) => {
  const opened = await openStage2(device);
  await train(index.stage2_train, opened, [...opened.adapters.values()], stage2);
  const file = await GoldenFile.open(golden, "stage2_lora_final.safetensors");
  for (const [key, parameter] of opened.adapters) {
    const { settings, steps } = index.stage2_train;
    await compareTrained(parameter, (await file.host(key)).values, settings, steps.length, key);
  }
});
