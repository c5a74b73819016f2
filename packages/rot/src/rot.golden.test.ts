/** Render-of-Thought against the published code on a tiny checkpoint: targets, losses, gradients, trained weights, latents. */
import { join } from "node:path";
import { fetchImageSize, ImageProcessor, type Lora, resize, toRgb, type VisionLanguageModel } from "@rot/models";
import { loadImage, loadImageProcessor } from "@rot/models/node";
import {
  AdamW,
  clipGradNorm,
  type Device,
  linearWithWarmup,
  requireGrad,
  type Tensor,
  tensor,
  untaped,
} from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { GoldenFile, toleranceOf } from "../../models/test/tools/golden-folder.ts";
import {
  base,
  golden,
  index,
  type Losses,
  openHead,
  openStudent,
  type Training,
} from "../test/tools/golden-student.ts";
import { layOutBatch } from "./latent/batch.ts";
import { latentLoss, type LatentLossName } from "./latent/losses.ts";
import { rolled, rollOut } from "./latent/rollout.ts";
import { combine } from "./methods/rot/combine.ts";
import { rotLosses, rotStep, type StepOptions, type TrainingSample } from "./methods/rot/step.ts";

/** The first run of stage 1, which stage 2 goes on from. */
const [firstLoss = ""] = Object.keys(index.stage1_train);
const tolerance = toleranceOf(golden);
/** After steps of Adam, as the README states it. */
const trainedTolerance = 1e-3;

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

/** What the teacher makes of a sample's picture, and its grid. */
async function targetOf(model: VisionLanguageModel, processor: ImageProcessor, sample: number) {
  const drawn = toRgb(await loadImage(join(golden, "images", `${sample}_rendered.png`)));
  const small = resize(drawn, fetchImageSize(drawn), "pil");
  expect([small.width, small.height]).toEqual(index.samples[sample]?.resized28_wh);
  const { pixelValues, patchLength, imageGridThw } = processor.process([small]);
  const pixels = tensor(model.device, pixelValues, { shape: [pixelValues.length / patchLength, patchLength] });
  return { tokens: untaped(() => model.imageFeatures(pixels, imageGridThw)).tokens, grid: imageGridThw };
}

test("the teacher: both resizes, the tower, and one target a merged patch", async ({ device }) => {
  const { model } = await openStudent(device);
  const setup = await GoldenFile.open(golden, "setup.safetensors");
  const processor = await loadImageProcessor(base, { resize: "torchvision" });
  for (const [i, sample] of index.samples.entries()) {
    const { tokens, grid } = await targetOf(model, processor, i);
    expect(grid).toEqual(sample.grid_thw);
    expect(tokens.shape[0]).toBe(sample.latents);
    await expectClose(tokens, (await setup.host(`target.${i}`)).values, `target.${i}`);
  }
});

test("the teacher under the limits of the published checkpoints", async ({ device }) => {
  const { model } = await openStudent(device);
  const setup = await GoldenFile.open(golden, "setup.safetensors");
  const { config } = await loadImageProcessor(base);
  const { sample, shortest_edge: minPixels, longest_edge: maxPixels, ...want } = index.published_limits;
  const { tokens, grid } = await targetOf(model, new ImageProcessor({ ...config, minPixels, maxPixels }), sample);
  expect(grid).toEqual(want.grid_thw);
  expect(tokens.shape[0]).toBe(want.latents);
  const key = `target_published_limits.${sample}`;
  await expectClose(tokens, (await setup.host(key)).values, key);
});

test("the student's tokens are those of the published code", async ({ device }) => {
  const detail = await GoldenFile.open(golden, "stage1_detail.safetensors");
  const { samples } = await openStudent(device);
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
  const { model, head, samples } = await openStudent(device);
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

test("each sample alone: its losses, those of its steps, and the logits that its labels are read from", async ({
  device,
}) => {
  const detail = await GoldenFile.open(golden, "stage1_detail.safetensors");
  const { model, head, samples } = await openStudent(device);
  for (const i of index.stage1_forward.batch) {
    const sample = samples[i] as TrainingSample;
    const want = async (what: string): Promise<number[]> => Array.from((await detail.host(`${i}.${what}`)).values);
    const { vision, language } = rotLosses(model, head.head, [sample], stage1("mse_only"));
    near(await vision.item(), (await want("vision_loss"))[0] as number, tolerance, `${i}.vision_loss`);
    near(await language.item(), (await want("lm_loss"))[0] as number, tolerance, `${i}.lm_loss`);

    const predicted = (await detail.device(device, `${i}.predicted`)).reshape(-1, model.width);
    const steps = latentLoss("mse_only", predicted, sample.target);
    await expectClose(steps, await want("step_vision_losses"), `${i}.step_vision_losses`);

    const layout = layOutBatch([sample], [sample.target.shape[0] as number]);
    expect(Array.from(layout.labels), `${i}.labels`).toEqual((await want("labels")).filter((label) => label !== -100));
    const logits = untaped(() => {
      const embeddings = model.embed(tensor(device, layout.ids, { shape: [1, layout.length] }));
      const images = { tokens: predicted, deepstack: [], rows: layout.latentRows };
      return model.logits(model.forward(embeddings, { valid: layout.valid, images, rows: layout.answerRows }));
    });
    await expectClose(logits, await want("label_logits"), `${i}.label_logits`);
  }
});

test.for(Object.keys(index.stage1_forward.losses))("stage 1: losses under %s", async (name, { device }) => {
  const { model, head, samples } = await openStudent(device);
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
  opened: Awaited<ReturnType<typeof openStudent>>,
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
  const opened = await openStudent(device);
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

/** The head that stage 2 begins with: that of the first run of stage 1. */
async function openStage2(device: Device) {
  const opened = await openStudent(device, "stage2_lora_init.safetensors");
  const head = await openHead(device, await GoldenFile.open(golden, `stage1_${firstLoss}_final.safetensors`));
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
