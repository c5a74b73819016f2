/** The stages of Render-of-Thought as training tasks: which samples a step sees, in which batches, and what learns. */
import type { Lora, VisionLanguageModel } from "@rot/models";
import { key, type RandomKey, scope, type Tensor, tensor } from "@rot/tensor";
import { type SampleTokens, wholeOf } from "../../latent/batch.ts";
import { sampleOrder } from "../../train/order.ts";
import type { OptimizerSettings, StepGradients, TrainingTask, ValidationResults } from "../../train/task.ts";
import type { ProjectionHead } from "./head.ts";
import { rotLosses, rotStep, type StepOptions, type StepResult, textStep, type TrainingSample } from "./step.ts";

/** Samples, and where their targets come from. */
export interface TrainingData {
  readonly samples: readonly SampleTokens[];
  /** Latents of each sample; 0 where there is none. */
  readonly counts: readonly number[];
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
  /** The part of some samples that is answered right, as a part of every validation. */
  readonly accuracy?: ((signal?: AbortSignal) => Promise<number>) | null;
  /** Puts what learns where the model reads it, if it does not read the parameters themselves. Called before each use. */
  readonly place?: () => void;
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
      const answers = wholeOf(answerCounts(whole));
      return rotStep(model, head, batch, parameters, { ...stage.step, whole: { latents, answers }, onTaping });
    },
    counts: (batch) => ({ latents: batch.reduce((sum, { target }) => sum + (target.shape[0] as number), 0) }),
    free: (batch) => {
      for (const { target } of batch) target.dispose();
    },
    async validate(source, signal) {
      const sums = { vision: 0, language: 0, loss: 0 };
      const whole = { latents: wholeOf(source.counts), answers: wholeOf(answerCounts(source.samples)) };
      await inBatches(source.samples.length, stage.batchSize, signal, async (numbers) => {
        const batch = await load(source, numbers);
        try {
          const losses = scope(() => rotLosses(model, head, batch, { ...stage.step, whole }));
          const names = ["vision", "language", "loss"] as const;
          const values = await Promise.all(names.map((name) => take(losses[name])));
          for (const [i, name] of names.entries()) sums[name] += values[i] as number;
        } finally {
          for (const { target } of batch) target.dispose();
        }
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
      const answers = wholeOf(answerCounts(whole));
      const options = { ...stage.step, whole: { latents: answers, answers }, onTaping };
      return textStep(model, batch, parameters, options);
    },
    counts: () => ({}),
    free: () => {},
    async validate(source, signal) {
      let loss = 0;
      const answers = wholeOf(answerCounts(source.samples));
      await inBatches(source.samples.length, stage.batchSize, signal, async (numbers) => {
        const batch = numbers.map((n) => source.samples[n] as SampleTokens);
        const options = { ...stage.step, whole: { latents: answers, answers } };
        loss += await take(scope(() => textStep(model, batch, [], options).loss));
      });
      return { validation: loss };
    },
  });
}

/** Tokens of each answer. */
const answerCounts = (samples: readonly SampleTokens[]): number[] => samples.map(({ answer }) => answer.length);

/** What differs between stages. */
interface Work<S extends SampleTokens> {
  load(numbers: readonly number[]): Promise<readonly S[]> | readonly S[];
  /** Losses and gradients of a batch, as its part of the whole step. */
  run(
    batch: readonly S[],
    whole: readonly S[],
    parameters: readonly Tensor[],
    onTaping: (taping: boolean) => void,
  ): Part;
  counts(batch: readonly S[]): Readonly<Record<string, number>>;
  free(batch: readonly S[]): void;
  /** Losses over all samples. */
  validate(source: TrainingData, signal?: AbortSignal): Promise<ValidationResults>;
}

function task<S extends SampleTokens>(stage: StageOptions, work: Work<S>): TrainingTask {
  const { data, batchSize, accumulation, seed, lora, validation, accuracy, place } = stage;
  const parameters = [...stage.parameters.values()];
  const order = sampleOrder(data.samples.length, key(seed).for("order"));
  const dropout: RandomKey = key(seed).for("dropout");
  const perStep = batchSize * accumulation;
  const samples = (step: number): number[] => order.take(step * perStep, perStep);
  return {
    name: stage.name,
    parameters: stage.parameters,
    steps: stage.steps,
    optimizer: stage.optimizer,
    samples,
    async gradients(step) {
      place?.();
      const numbers = samples(step);
      const whole = await work.load(numbers);
      const parts: Part[] = [];
      try {
        for (let begin = 0; begin < whole.length; begin += batchSize) {
          const batch = whole.slice(begin, begin + batchSize);
          const drop = masks(dropout.for("step", step), numbers.slice(begin, begin + batchSize));
          try {
            parts.push(work.run(batch, whole, parameters, drop.set));
          } finally {
            drop.dispose();
          }
          if (parts.length === 2) parts.splice(0, 2, addUp(parts[0] as Part, parts[1] as Part));
        }
      } catch (error) {
        for (const part of parts) for (const tensor of tensorsOf(part)) tensor.dispose();
        throw error;
      } finally {
        work.free(whole);
      }
      const [{ loss, vision, language, gradients }] = parts as [Part];
      const tokens = whole.reduce((total, { question, answer }) => total + question.length + answer.length, 0);
      const counts = { samples: whole.length, tokens, ...work.counts(whole) };
      const losses: StepGradients["losses"] = { loss, ...(vision && { vision }), ...(language && { language }) };
      return { losses, gradients, counts };
    },
    ...(validation && validation.samples.length > 0 && { validate }),
  };

  async function validate(signal?: AbortSignal): Promise<ValidationResults> {
    place?.();
    const losses = await work.validate(validation as TrainingData, signal);
    return accuracy ? { ...losses, accuracy: await accuracy(signal) } : losses;
  }

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

/** What came of a batch. */
type Part = Pick<StepResult, "loss" | "gradients"> & Partial<StepResult>;

const tensorsOf = ({ loss, vision, language, gradients }: Part): Tensor[] =>
  [loss, vision, language, ...gradients].filter((tensor) => tensor !== undefined && tensor !== null);

/** Adds two parts of a step, and frees them. */
function addUp(a: Part, b: Part): Part {
  const sum = scope(() => {
    const add = (x: Tensor | null, y: Tensor | null): Tensor | null =>
      x && y ? x.add(y) : ((x ?? y)?.alias() ?? null);
    return {
      loss: a.loss.add(b.loss),
      ...(a.vision && b.vision && { vision: a.vision.add(b.vision) }),
      ...(a.language && b.language && { language: a.language.add(b.language) }),
      gradients: a.gradients.map((gradient, i) => add(gradient, b.gradients[i] ?? null)),
    };
  });
  for (const tensor of [...tensorsOf(a), ...tensorsOf(b)]) tensor.dispose();
  return sum;
}

async function take(scalar: Tensor): Promise<number> {
  try {
    return await scalar.item();
  } finally {
    scalar.dispose();
  }
}

async function inBatches(
  count: number,
  size: number,
  signal: AbortSignal | undefined,
  run: (numbers: readonly number[]) => Promise<void>,
): Promise<void> {
  for (let begin = 0; begin < count; begin += size) {
    signal?.throwIfAborted();
    await run(Array.from({ length: Math.min(size, count - begin) }, (_, i) => begin + i));
  }
}
