/** How much memory a stage needs: the peak of its own steps and validation, done on a device that computes nothing. */
import type { DType, Peak, Rehearsal, Tensor } from "@rot/tensor";
import type { TrainingData } from "../methods/rot/task.ts";
import { runTask } from "./run-task.ts";
import type { TrainingTask } from "./task.ts";

/** Device memory at its peak, in bytes. */
export interface MemoryEstimate {
  /** The most that tensors hold at one time; the rest adds up to it if that is while {@link during} is `training`. */
  readonly peak: number;
  readonly during: "opening" | "training" | "validation";
  /** The most that tensors hold in a training step, and what it is made of. */
  readonly training: number;
  /** Weights that do not learn, by their dtype. */
  readonly frozen: { readonly [D in DType]?: number };
  readonly parameters: number;
  /** Moments, and f32 copies of parameters that are kept in fewer bits. */
  readonly optimizer: number;
  readonly gradients: number;
  /** What the tape holds of the forward pass of the largest batch. */
  readonly activations: number;
  /** What is held besides: results on their way, targets, the cache of the roll-out. */
  readonly workspace: number;
  /** The most that the adapter is asked for: the peak in whole buffers, and those kept for reuse. */
  readonly allocated: number;
}

/** A stage on a device to rehearse on. */
export interface Rehearsable {
  readonly task: TrainingTask;
  /** All that the model is made of. */
  readonly weights: ReadonlyMap<string, Tensor>;
}

const bytesOf = (tensors: Iterable<Tensor>): number => [...tensors].reduce((sum, { bytes }) => sum + bytes, 0);

/**
 * Does some steps of a stage, and validates.
 *
 * @param device  on which the stage was made; its peak is that of the making
 * @param steps   their numbers, at least two: the optimizer has no state before the first, so that its memory counts less
 * @throws {OutOfMemoryError} when a tensor is larger than the adapter's largest buffer
 */
export async function rehearse(
  device: Rehearsal,
  { task, weights }: Rehearsable,
  steps: readonly number[],
): Promise<MemoryEstimate> {
  const opening = device.peak.bytes;
  const stood = device.memory().live;
  let optimizer = 0;
  let gradients = 0;
  let first: Peak = device.peak;
  let training: Peak = device.peak;
  device.mark();
  const rehearsed: TrainingTask = {
    ...task,
    steps: steps.length,
    async gradients(step) {
      const made = await task.gradients(steps[step] as number);
      gradients = bytesOf(made.gradients.filter((gradient) => gradient !== null));
      return made;
    },
  };
  await runTask(rehearsed, {
    validateEvery: steps.length,
    onStep({ step }) {
      if (step === 1) {
        first = device.peak;
        optimizer = device.memory().live - stood;
      } else if (step === steps.length) training = device.peak;
      else return;
      device.mark();
    },
  });
  const peaks = { opening, training: Math.max(first.bytes, training.bytes), validation: device.peak.bytes };
  const [during, peak] = Object.entries(peaks).reduce((a, b) => (b[1] > a[1] ? b : a));

  const learnt = new Set(task.parameters.values());
  const frozen: { [D in DType]?: number } = {};
  for (const tensor of new Set(weights.values())) {
    if (!learnt.has(tensor)) frozen[tensor.dtype] = (frozen[tensor.dtype] ?? 0) + tensor.bytes;
  }
  const parameters = bytesOf(learnt);
  const rest = training.bytes - training.standing - training.saved;
  const known = Object.values(frozen).reduce((sum, bytes) => sum + bytes, 0) + parameters + optimizer;
  const made = Math.min(rest, gradients);
  return {
    peak,
    during: during as MemoryEstimate["during"],
    training: training.bytes,
    frozen,
    parameters,
    optimizer,
    gradients: made,
    activations: training.saved,
    workspace: training.bytes - known - made - training.saved,
    allocated: device.allocated.peak,
  };
}

/** Steps that are looked at: those of weeks. */
const MOST_STEPS = 100_000;

/**
 * The steps to rehearse: the first, and of the others those with the largest batches, in rows of text, in what the roll-out
 * remembers, in latents, in tokens of answers. One that is the largest in several is named once. All batches have as many samples.
 *
 * @param done  steps that are done, with which the optimizer has its state
 */
export function stepsToRehearse(
  data: Pick<TrainingData, "samples" | "counts">,
  task: Pick<TrainingTask, "samples" | "steps">,
  batchSize: number,
  done: number,
): number[] {
  const first = Math.min(done, task.steps - 1);
  const begin = done > 0 || task.steps === 1 ? first : first + 1;
  const largest = [0, 1, 2, 3].map(() => ({ step: begin, size: -1 }));
  for (let step = begin; step < Math.min(task.steps, begin + MOST_STEPS); step++) {
    const numbers = task.samples?.(step) ?? [];
    for (let at = 0; at < numbers.length; at += batchSize) {
      const sizes = sizesOf(data, numbers.slice(at, at + batchSize));
      for (const [i, size] of sizes.entries()) if (size > (largest[i]?.size ?? 0)) largest[i] = { step, size };
    }
  }
  return [first, ...new Set(largest.map(({ step }) => step))];
}

/** Of a batch: rows of each text and of each memory of the roll-out, padding included; latents; tokens of answers. */
function sizesOf(
  { samples, counts }: Pick<TrainingData, "samples" | "counts">,
  batch: readonly number[],
): readonly number[] {
  let [longest, prompt, most, latents, answers] = [0, 0, 0, 0, 0];
  for (const n of batch) {
    const { question, answer } = samples[n] as TrainingData["samples"][number];
    const count = counts[n] as number;
    longest = Math.max(longest, question.length + count + answer.length);
    prompt = Math.max(prompt, question.length);
    most = Math.max(most, count);
    latents += count;
    answers += answer.length;
  }
  return [longest, prompt + most, latents, answers];
}
