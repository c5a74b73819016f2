/** Runs a stage of training: steps, clipping, metrics, checkpoints, validation, and an end that loses nothing. */
import { join } from "node:path";
import { NumericError } from "@rot/models";
import { type AdamW, clipGradNorm, gradNorm, type Tensor } from "@rot/tensor";
import { type Contents, type Keep, pruneCheckpoints, writeCheckpoint } from "./checkpoint-folder.ts";
import { onDisk } from "./disk-error.ts";
import { type MetricsFile, type MetricsRow, openMetrics } from "./metrics-file.ts";
import { createOptimizer, type ScheduledOptimizer } from "./optimizer.ts";
import type { StepGradients, TrainingTask, ValidationResults } from "./task.ts";
import { restore, trainingContents, type TrainingState } from "./training-state.ts";

/** What is told after every step. */
export interface StepReport {
  readonly task: string;
  /** Steps done, with this one. */
  readonly step: number;
  readonly steps: number;
  readonly losses: Readonly<Record<string, number>>;
  readonly learningRate: number;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** Of this step: samples, tokens, latents. */
  readonly counts: Readonly<Record<string, number>>;
  /** Since the begin of training. */
  readonly totals: Readonly<Record<string, number>>;
  readonly milliseconds: number;
  /** Bytes live on the device. */
  readonly deviceBytes: number;
}

/** How a stage is run. */
export interface RunOptions {
  /**
   * Where `metrics.jsonl`, `timing.jsonl` and `checkpoints/` are; nothing is written without it. What a clock says stands in
   * a file of its own: the metrics of a run are the same, bit for bit, however often it was interrupted.
   */
  readonly folder?: string;
  /** The path of a checkpoint to go on from. */
  readonly resume?: string;
  /** Steps from one checkpoint to the next; one is written at the end in any case. */
  readonly checkpointEvery?: number;
  readonly keep?: Omit<Keep, "best">;
  /** What belongs into a checkpoint besides the state of training, such as what evaluation opens. */
  readonly contents?: () => Contents | Promise<Contents>;
  /** Steps from one validation to the next. */
  readonly validateEvery?: number;
  /** What the best checkpoint is the best in; of those alike in accuracy it is the one with the smallest loss. */
  readonly metricForBestModel?: "loss" | "accuracy";
  /** Validations without a new best after which training ends. */
  readonly patience?: number;
  /** Waited for. */
  readonly onStep?: (report: StepReport) => unknown;
  readonly onValidation?: (step: number, results: Readonly<Record<string, number>>) => void;
  readonly onCheckpoint?: (path: string) => void;
  /** Ends training after the step that is being done, with a checkpoint; before the first one without. */
  readonly signal?: AbortSignal;
}

/** How a stage ended. */
export interface Outcome {
  readonly step: number;
  /** Steps that were done here: none of a run that had ended before. */
  readonly done: number;
  /** That all of its steps took, those before a resume too. */
  readonly seconds: number;
  /** `finished`: all steps; `early`: the task or the validation said so; `stopped`: the signal did. */
  readonly end: "finished" | "early" | "stopped";
  readonly best: TrainingState["best"];
  /** Losses of the last step that was done here. */
  readonly losses: Readonly<Record<string, number>>;
}

/**
 * Trains.
 *
 * @throws {NumericError} when a loss or gradient is no finite number; the step is not applied, and what was before it is saved
 * @throws {CheckpointError | WeightsError} when the checkpoint to resume from does not fit
 * @throws {DiskError} when metrics or a checkpoint cannot be written
 */
export async function runTask(task: TrainingTask, options: RunOptions = {}): Promise<Outcome> {
  using optimizer = createOptimizer(task);
  const begun: TrainingState = { task: task.name, step: 0, counts: {}, best: null, withoutBest: 0 };
  const from = options.resume ? await restore(options.resume, task, optimizer.adamw) : begun;
  const metrics = await openLog(options, "metrics.jsonl", from);
  const timing = await openLog(options, "timing.jsonl", from);
  return await new TaskRun({ task, options, optimizer, metrics, timing }, from).toEnd();
}

/** What a stage is run with. */
interface Means {
  readonly task: TrainingTask;
  readonly options: RunOptions;
  readonly optimizer: ScheduledOptimizer;
  /** Null where nothing is written. */
  readonly metrics: MetricsFile | null;
  readonly timing: MetricsFile | null;
}

/** A stage on its way. */
class TaskRun {
  readonly #means: Means;
  #state: TrainingState;
  /** The step of the latest checkpoint; -1 where that has to be written again. */
  #saved: number;
  /** Losses of the latest steps. */
  readonly #history: Readonly<Record<string, number>>[];
  #milliseconds: number;

  constructor(means: Means, from: TrainingState) {
    this.#means = means;
    this.#state = from;
    this.#saved = from.step;
    const steps = (means.metrics?.kept ?? []).filter((row) => !isValidation(row));
    this.#history = (steps as Readonly<Record<string, number>>[]).slice(-REMEMBERED);
    this.#milliseconds = (means.timing?.kept ?? []).reduce((sum, row) => sum + Number(row["milliseconds"] ?? 0), 0);
  }

  async toEnd(): Promise<Outcome> {
    const { task, options } = this.#means;
    const from = this.#state.step;
    if (this.#state.validationDue) {
      await this.#validate();
      // What was saved of this step does not know how good it is.
      if (!this.#state.validationDue) this.#saved = -1;
      await this.#save();
    }
    let end: Outcome["end"] = "finished";
    while (this.#state.step < task.steps && !this.#state.validationDue) {
      if (this.#isEnough()) end = "early";
      else if (options.signal?.aborted) end = "stopped";
      if (end !== "finished") break;
      await this.#step();
      const { step } = this.#state;
      const { validateEvery, checkpointEvery } = options;
      if (validateEvery && (step % validateEvery === 0 || step === task.steps)) await this.#validate();
      const isBest = this.#state.best?.step === step;
      if (isBest || (checkpointEvery && step % checkpointEvery === 0)) await this.#save();
    }
    await this.#save();
    if (this.#state.validationDue) end = "stopped";
    const { step, best } = this.#state;
    const losses = step > from ? (this.#history.at(-1) ?? {}) : {};
    return { step, done: step - from, seconds: this.#milliseconds / 1000, end, best, losses };
  }

  #isEnough(): boolean {
    const { task, options } = this.#means;
    if (this.#state.withoutBest >= (options.patience ?? Infinity)) return true;
    return this.#history.length > 0 && (task.isDone?.(this.#history) ?? false);
  }

  async #step(): Promise<void> {
    const { task, options, optimizer, metrics, timing } = this.#means;
    const begin = performance.now();
    const learningRate = optimizer.setRate(this.#state.step);
    const { losses, norm, counts } = await apply(task, optimizer.adamw, this.#state.step).catch(
      async (error: unknown) => {
        if (error instanceof NumericError) await this.#save();
        throw error;
      },
    );
    const milliseconds = performance.now() - begin;
    this.#milliseconds += milliseconds;
    const step = this.#state.step + 1;
    const totals = addUp(this.#state.counts, counts);
    this.#state = { ...this.#state, step, counts: totals };
    this.#history.push(losses);
    if (this.#history.length > REMEMBERED) this.#history.shift();
    const { device } = task.parameters.values().next().value as Tensor;
    const report: StepReport = {
      task: task.name,
      step,
      steps: task.steps,
      losses,
      learningRate,
      gradientNorm: norm,
      counts,
      totals,
      milliseconds,
      deviceBytes: device.memory().live,
    };
    await metrics?.append(flat(report));
    await timing?.append({ step, milliseconds, device_bytes: report.deviceBytes });
    await options.onStep?.(report);
  }

  /** Validates, unless it is stopped meanwhile: then it is done after the resume. */
  async #validate(): Promise<void> {
    const { task, options, metrics } = this.#means;
    const results = await task.validate?.(options.signal).catch((error: unknown) => {
      if (options.signal?.aborted && error === options.signal.reason) return null;
      throw error;
    });
    const { validationDue: _, ...state } = this.#state;
    this.#state = { ...state, ...(results === null && { validationDue: true }) };
    if (!results) return;
    const { step, best, withoutBest } = state;
    if (isBetter(results, best, options.metricForBestModel)) {
      const { validation, accuracy } = results;
      const found = { step, validation, ...(accuracy !== undefined && { accuracy }) };
      this.#state = { ...state, best: found, withoutBest: 0 };
    } else this.#state = { ...state, withoutBest: withoutBest + 1 };
    await metrics?.append({ step, task: task.name, ...prefixed("validation", results) });
    options.onValidation?.(step, results);
  }

  /** Writes a checkpoint, where there is a folder and none of this step. */
  async #save(): Promise<void> {
    const { task, options, optimizer, metrics } = this.#means;
    const { step, best } = this.#state;
    if (!options.folder || this.#saved === step) return;
    const contents = { ...trainingContents(task, optimizer.adamw, this.#state), ...(await options.contents?.()) };
    const checkpoints = join(options.folder, "checkpoints");
    const path = await onDisk(`the checkpoint after step ${step} cannot be written`, async () => {
      await metrics?.sync();
      const written = await writeCheckpoint(checkpoints, step, contents);
      await pruneCheckpoints(checkpoints, { last: 3, ...options.keep, ...(best && { best: best.step }) });
      return written;
    });
    this.#saved = step;
    options.onCheckpoint?.(path);
  }
}

/** Steps whose losses a task may look back on. */
const REMEMBERED = 1000;

/** A line of metrics that a validation wrote, not a step. */
const isValidation = (row: MetricsRow): boolean => Object.hasOwn(row, "validation");

/** Whether results are better than the best so far. A loss that is no number never is. */
function isBetter(
  results: ValidationResults,
  best: TrainingState["best"],
  metric: "loss" | "accuracy" = "loss",
): boolean {
  if (!Number.isFinite(results.validation)) return false;
  if (!best) return true;
  const [now, before] = [results["accuracy"] ?? 0, best.accuracy ?? 0];
  return metric === "accuracy" && now !== before ? now > before : results.validation < best.validation;
}

async function openLog(
  { folder, resume }: RunOptions,
  name: string,
  { step, validationDue = false }: TrainingState,
): Promise<MetricsFile | null> {
  if (folder === undefined) return null;
  const path = join(folder, name);
  const stays = (row: MetricsRow): boolean =>
    row.step < step || (row.step === step && !(validationDue && isValidation(row)));
  const log = await onDisk(path, () => openMetrics(path, resume === undefined ? () => false : stays));
  return { ...log, append: (row) => onDisk(path, () => log.append(row)) };
}

/** Does a step: gradients, clipping, a look at the numbers, and only then the parameters. Frees the gradients. */
async function apply(
  task: TrainingTask,
  optimizer: AdamW,
  step: number,
): Promise<{
  readonly losses: Record<string, number>;
  readonly norm: number;
  readonly counts: StepGradients["counts"];
}> {
  const { maxGradNorm } = task.optimizer;
  const { losses, gradients, counts } = await task.gradients(step);
  try {
    using total = gradNorm(gradients);
    const read = async ([name, loss]: [string, Tensor]) => [name, await loss.item()] as const;
    const values = Object.fromEntries(await Promise.all(Object.entries(losses).map(read)));
    const norm = await total.item();
    // A part of the loss says more than their sum.
    const { loss, ...parts } = values;
    const bad = Object.entries({ ...parts, loss: loss as number }).find(([, value]) => !Number.isFinite(value));
    if (bad || !Number.isFinite(norm)) {
      const what = bad
        ? `the loss "${bad[0]}" is ${bad[1]}${await badParameter(task)}`
        : `the gradient of ${(await firstBad(task, gradients)) ?? "all parameters together"} is not finite`;
      throw new NumericError(
        `${task.name}: at step ${step + 1} ${what}; the step was not applied. Lower the learning rate (${Number(optimizer.lr.toPrecision(3))}) or look at the data of this step`,
      );
    }
    if (maxGradNorm !== undefined && norm > maxGradNorm) clipGradNorm(gradients, maxGradNorm).dispose();
    optimizer.step(gradients);
    return { losses: values, norm, counts };
  } finally {
    for (const tensor of [...Object.values(losses), ...gradients]) tensor?.dispose();
  }
}

/** The name of the first parameter whose tensor is not finite. */
async function firstBad({ parameters }: TrainingTask, tensors: readonly (Tensor | null)[]): Promise<string | null> {
  for (const [i, name] of [...parameters.keys()].entries()) {
    const values = ((await tensors[i]?.read()) ?? []) as Iterable<number>;
    for (const value of values) if (!Number.isFinite(value)) return name;
  }
  return null;
}

async function badParameter(task: TrainingTask): Promise<string> {
  const name = await firstBad(task, [...task.parameters.values()]);
  return name === null ? "" : `, for the parameter ${name} is not finite`;
}

function addUp(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const sum: Record<string, number> = { ...a };
  for (const [name, value] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + value;
  return sum;
}

const prefixed = (prefix: string, values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name === prefix ? name : `${prefix}_${name}`, value]),
  );

/** A report as one line of metrics. */
const flat = ({ losses, counts, totals, ...report }: StepReport) => ({
  step: report.step,
  task: report.task,
  ...losses,
  learning_rate: report.learningRate,
  gradient_norm: report.gradientNorm,
  ...counts,
  ...prefixed("total", totals),
});
