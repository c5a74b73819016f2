/** The stages of Render-of-Thought as training tasks: which samples a step sees, in which batches, and what learns. */
import type { Lora, VisionLanguageModel } from "@rot/models";
import { key, type RandomKey, scope, type Tensor, tensor } from "@rot/tensor";
import { type SampleTokens, wholeOf } from "../../latent/batch.ts";
import { sampleOrder } from "../../train/order.ts";
import type { OptimizerSettings, StepGradients, TrainingTask } from "../../train/task.ts";
import type { ProjectionHead } from "./head.ts";
import { rotLosses, rotStep, type StepOptions, type StepResult, textStep, type TrainingSample } from "./step.ts";

/** Samples, and where their targets come from. */
export interface TrainingData {
  readonly samples: readonly SampleTokens[];
  /**
   * The targets of some samples, each [T, D].
   *
   * @param numbers  of samples
   * @returns        tensors to dispose
   */
  targets(numbers: readonly number[]): Promise<readonly Tensor[]>;
}

/** What all stages have in common. */
export interface StageOptions {
  readonly name: string;
  readonly model: VisionLanguageModel;
  /** What learns, by name; leaves. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly data: TrainingData;
  readonly validation?: TrainingData | null;
  readonly batchSize: number;
  /** Batches that make one step; their gradients are those of one batch as large as all of them. */
  readonly accumulation: number;
  readonly steps: number;
  readonly optimizer: OptimizerSettings;
  readonly seed: number;
  /** Adapters that learn, whose dropout is set for each step. */
  readonly lora?: Lora | null;
}

/** Stage 1 or 2. */
export function latentTask(
  stage: StageOptions & { readonly head: ProjectionHead; readonly step: StepOptions },
): TrainingTask {
  const { model, head, data } = stage;
  const load = async (source: TrainingData, numbers: readonly number[]): Promise<TrainingSample[]> => {
    const targets = await source.targets(numbers);
    return numbers.map((n, i) => ({ ...(source.samples[n] as SampleTokens), target: targets[i] as Tensor }));
  };
  return task(stage, {
    load: (numbers) => load(data, numbers),
    run(batch, whole, parameters, onTaping) {
      const latents = wholeOf(whole.map(({ target }) => target.shape[0] as number));
      const answers = wholeOf(whole.map(({ answer }) => answer.length));
      return rotStep(model, head, batch, parameters, { ...stage.step, whole: { latents, answers }, onTaping });
    },
    counts: (batch) => ({ latents: batch.reduce((sum, { target }) => sum + (target.shape[0] as number), 0) }),
    free: (batch) => {
      for (const { target } of batch) target.dispose();
    },
    async validate(source) {
      const sums = { vision: 0, language: 0, loss: 0 };
      await inBatches(source.samples.length, stage.batchSize, async (numbers) => {
        const batch = await load(source, numbers);
        const { vision, language, loss } = scope(() => rotLosses(model, head, batch, stage.step));
        const weight = numbers.length / source.samples.length;
        sums.vision += weight * (await take(vision));
        sums.language += weight * (await take(language));
        sums.loss += weight * (await take(loss));
        for (const { target } of batch) target.dispose();
      });
      return { validation: sums.loss, vision: sums.vision, language: sums.language };
    },
  });
}

/** Supervised text alone. */
export function textTask(
  stage: StageOptions & { readonly step: Pick<StepOptions, "weighting" | "recompute"> },
): TrainingTask {
  const { model, data } = stage;
  return task(stage, {
    load: (numbers) => numbers.map((n) => data.samples[n] as SampleTokens),
    run(batch, whole, parameters, onTaping) {
      const answers = wholeOf(whole.map(({ answer }) => answer.length));
      const options = { ...stage.step, whole: { latents: answers, answers }, onTaping };
      return textStep(model, batch, parameters, options);
    },
    counts: () => ({}),
    free: () => {},
    async validate(source) {
      let loss = 0;
      await inBatches(source.samples.length, stage.batchSize, async (numbers) => {
        const batch = numbers.map((n) => source.samples[n] as SampleTokens);
        const result = scope(() => textStep(model, batch, [], stage.step).loss);
        loss += (numbers.length / source.samples.length) * (await take(result));
      });
      return { validation: loss };
    },
  });
}

/** What differs between stages. */
interface Work<S extends SampleTokens> {
  load(numbers: readonly number[]): Promise<readonly S[]> | readonly S[];
  /** Losses and gradients of a batch, as its part of the whole step. */
  run(
    batch: readonly S[],
    whole: readonly S[],
    parameters: readonly Tensor[],
    onTaping: (taping: boolean) => void,
  ): Pick<StepResult, "loss" | "gradients"> & Partial<StepResult>;
  counts(batch: readonly S[]): Readonly<Record<string, number>>;
  free(batch: readonly S[]): void;
  validate(source: TrainingData): Promise<{ validation: number } & Record<string, number>>;
}

function task<S extends SampleTokens>(stage: StageOptions, work: Work<S>): TrainingTask {
  const { data, batchSize, accumulation, seed, lora, validation } = stage;
  const parameters = [...stage.parameters.values()];
  const order = sampleOrder(data.samples.length, key(seed).for("order"));
  const dropout: RandomKey = key(seed).for("dropout");
  return {
    name: stage.name,
    parameters: stage.parameters,
    steps: stage.steps,
    optimizer: stage.optimizer,
    async gradients(step) {
      const perStep = batchSize * accumulation;
      const numbers = order.take(step * perStep, perStep);
      const whole = await work.load(numbers);
      let sum: (Partial<StepResult> & Pick<StepResult, "loss" | "gradients">) | null = null;
      for (let begin = 0; begin < whole.length; begin += batchSize) {
        const batch = whole.slice(begin, begin + batchSize);
        const drop = masks(dropout.for("step", step), numbers.slice(begin, begin + batchSize));
        const part = work.run(batch, whole, parameters, drop.set);
        drop.dispose();
        sum = sum ? addUp(sum, part) : part;
      }
      const { loss, vision, language, gradients } = sum as NonNullable<typeof sum>;
      const tokens = whole.reduce((total, { question, answer }) => total + question.length + answer.length, 0);
      const counts = { samples: whole.length, tokens, ...work.counts(whole) };
      work.free(whole);
      const losses: StepGradients["losses"] = { loss, ...(vision && { vision }), ...(language && { language }) };
      return { losses, gradients, counts };
    },
    ...(validation && validation.samples.length > 0 && { validate: () => work.validate(validation) }),
  };

  /** Turns the dropout of the adapters on and off, for samples by their numbers. */
  function masks(step: RandomKey, numbers: readonly number[]) {
    if (!lora || !lora.config.dropout) return { set: () => {}, dispose: () => {} };
    const samples = tensor(stage.model.device, Int32Array.from(numbers));
    return {
      set: (taping: boolean) => lora.setDropout(taping ? step : null, samples),
      dispose: () => samples.dispose(),
    };
  }
}

/** Adds two parts of a step, and frees them. */
function addUp<P extends Partial<StepResult> & Pick<StepResult, "loss" | "gradients">>(a: P, b: P): P {
  const add = (x: Tensor | null | undefined, y: Tensor | null | undefined): Tensor | null => {
    if (!x || !y) return x ?? y ?? null;
    const sum = x.add(y);
    x.dispose();
    y.dispose();
    return sum;
  };
  return {
    ...a,
    loss: add(a.loss, b.loss),
    ...(a.vision && { vision: add(a.vision, b.vision) }),
    ...(a.language && { language: add(a.language, b.language) }),
    gradients: a.gradients.map((gradient, i) => add(gradient, b.gradients[i])),
  };
}

async function take(scalar: Tensor): Promise<number> {
  const value = await scalar.item();
  scalar.dispose();
  return value;
}

async function inBatches(
  count: number,
  size: number,
  run: (numbers: readonly number[]) => Promise<void>,
): Promise<void> {
  for (let begin = 0; begin < count; begin += size) {
    await run(Array.from({ length: Math.min(size, count - begin) }, (_, i) => begin + i));
  }
}
