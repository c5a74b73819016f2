/** The embedded default: a tiny model learns to think in pictures, and is compared with itself without that. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pretrained } from "@rot/models";
import { type Device, key } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { z } from "zod";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { CheckpointError, latestCheckpoint } from "../../train/checkpoint-folder.ts";
import { runTask } from "../../train/run-task.ts";
import type { TrainingTask } from "../../train/task.ts";
import { createTinyHead, directTask, firstStage, secondStage } from "../arms.ts";
import { chainTask, type Material, readingTask, scaleLatents } from "../base.ts";
import { type Score, scoreChain, scoreDirect, scoreThoughts, type ThoughtScore } from "../evaluate.ts";
import { copyOf, createTiny } from "../model.ts";
import { planTiny, type StagePlan, type TinyArm, tinyArms, type TinyPlan } from "../plan.ts";
import { createProblems } from "../problems.ts";
import type { TinyResults, TinyRow } from "../results.ts";
import { createStrips } from "../strips.ts";
import { openShippedBase } from "./shipped.ts";

/** How far {@link trainTiny} is. */
export interface TinyProgress {
  /** A stage of the plan, `measuring`, or `evaluating` an arm. */
  readonly stage: StagePlan["name"] | "measuring" | `evaluating ${string}`;
  readonly step: number;
  /** Steps at most; 0 where there are none to count. */
  readonly steps: number;
  readonly losses: Readonly<Record<string, number>>;
  /** What all that is left is expected to take. */
  readonly secondsLeft: number;
}

/** What {@link trainTiny} takes. */
export interface TinyOptions {
  readonly device: Device;
  /** 0 by default. */
  readonly seed?: number;
  /** Where metrics and checkpoints of each stage go; nothing is written without it. */
  readonly folder?: string;
  /** What to compare; all by default. */
  readonly arms?: readonly TinyArm[];
  /** Train the base too (the default), or take the one that comes with the package. */
  readonly base?: "train" | "shipped";
  /** Seconds after which less is done than was asked for; 900 by default. */
  readonly budget?: number;
  readonly onPlan?: (plan: TinyPlan) => void;
  readonly onProgress?: (progress: TinyProgress) => void;
  /** Told of damaged checkpoints that are passed over. */
  readonly onWarning?: (message: string) => void;
  /** Ends after the step that is being done, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Goes on from the checkpoints in the folder. */
  readonly resume?: boolean;
}

/** Ends everything when the signal says so. */
class Stopped extends Error {}

const CHECKPOINT_EVERY = 250;

/**
 * Trains and compares. With a folder, what was interrupted goes on with the same bits.
 *
 * @throws {UsageError | NumericError | CheckpointError} as training does
 */
export async function trainTiny(options: TinyOptions): Promise<TinyResults> {
  const { device, seed = 0, arms = tinyArms, base: from = "train", budget = 900, onProgress } = options;
  const begun = performance.now();
  const material: Material = {
    problems: createProblems(),
    strips: await createStrips(device, await dejaVuSans()),
  };
  onProgress?.({ stage: "measuring", step: 0, steps: 0, losses: {}, secondsLeft: budget });
  const secondsPerStep = await measure(device, material);
  const kept = await keptPlan(options);
  const plan = planTiny({ base: from, arms, secondsPerStep, budget, ...(kept && { ...kept, budget: Infinity }) });
  if (options.folder && !kept) await keepPlan(options.folder, plan);
  options.onPlan?.(plan);
  const run = runner(options, plan, secondsPerStep);
  const rows: TinyRow[] = [];
  const results = (end: TinyResults["end"]): TinyResults => ({
    end,
    plan,
    problems: material.problems.test.length,
    rows,
    stages: run.done,
    seconds: (performance.now() - begun) / 1000,
  });
  try {
    const base = plan.base === "shipped" ? await openShippedBase(device) : await trainBase(device, material, seed, run);
    for (const arm of tinyArms)
      if (plan.arms.includes(arm)) rows.push(...(await armOf[arm](base, material, seed, run)));
    return results("finished");
  } catch (error) {
    if (error instanceof Stopped) return results("stopped");
    throw error;
  }
}

const PLAN = "plan.json";
const planSchema = z.object({ base: z.enum(["train", "shipped"]), arms: z.array(z.enum(tinyArms)) });

/** What a run that is gone on with had decided to do: the machine may be busier or idler now. */
async function keptPlan({ folder, resume }: TinyOptions): Promise<Pick<TinyPlan, "base" | "arms"> | null> {
  if (!folder || !resume) return null;
  const file = join(folder, PLAN);
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (text === null) return null;
  try {
    return planSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new CheckpointError(`${file} is damaged: ${(error as Error).message}; begin in another folder`);
  }
}

async function keepPlan(folder: string, { base, arms }: TinyPlan): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFileAtomically(join(folder, PLAN), [new TextEncoder().encode(`${JSON.stringify({ base, arms })}\n`)]);
}

/** Seconds of a step of the chains: two to compile kernels, three to measure. */
async function measure(device: Device, material: Material): Promise<number> {
  const base = createTiny(device, 0);
  const task = chainTask(base, material, { seed: 0 });
  await runTask({ ...task, steps: 2 });
  const from = performance.now();
  await runTask({ ...task, steps: 3 });
  for (const tensor of [...task.parameters.values(), ...base.weights.values()]) tensor.dispose();
  return (performance.now() - from) / 3000;
}

/** Trains a base. */
export async function trainBase(device: Device, material: Material, seed: number, run: Runner): Promise<Pretrained> {
  const base = createTiny(device, seed);
  await run.stage(readingTask(base, material, { seed }));
  await scaleLatents(base, material);
  await run.stage(chainTask(base, material, { seed }));
  return base;
}

type Arm = (base: Pretrained, material: Material, seed: number, run: Runner) => Promise<TinyRow[]>;

const armOf: Readonly<Record<TinyArm, Arm>> = {
  async direct(base, material, seed, run) {
    const own = copyOf(base);
    const trainingSeconds = await run.stage(directTask(own, material, { seed }));
    return [await run.score("direct", trainingSeconds, () => scoreDirect(own.model, material.problems.test))];
  },

  chain: async (base, { problems }, _, run) => [
    await run.score("chain", 0, () => scoreChain(base.model, problems.test)),
  ],

  async rot(base, material, seed, run) {
    const head = createTinyHead(base, seed);
    const first = await run.stage(firstStage(base, head, material, { seed }));
    const score = (model: Pretrained) => () =>
      scoreThoughts({ model: model.model, head: head.project }, base.model, material.strips, material.problems.test);
    const afterFirst = await run.score("rot-stage1", first, score(base));
    const second = secondStage(base, head, material, { seed });
    const both = first + (await run.stage(second.task));
    return [afterFirst, await run.score("rot", both, score(second.model))];
  },

  async "without-stage1"(base, material, seed, run) {
    const head = createTinyHead(base, key(seed).for("tiny.without-stage1"));
    const second = secondStage(base, head, material, { seed, name: "without-stage1", steps: 650, lr: 2e-3 });
    const seconds = await run.stage(second.task);
    return [
      await run.score("without-stage1", seconds, () =>
        scoreThoughts(
          { model: second.model.model, head: head.project },
          base.model,
          material.strips,
          material.problems.test,
        ),
      ),
    ];
  },
};

/** Runs stages and evaluations, and knows how long the rest will take. */
export interface Runner {
  /** Trains, or goes on, or takes what was trained before; gives the seconds that it took now. */
  stage(task: TrainingTask): Promise<number>;
  score<S extends Score>(arm: TinyRow["arm"], trainingSeconds: number, score: () => Promise<S>): Promise<TinyRow>;
  readonly done: TinyResults["stages"];
}

export function runner(
  { folder, resume = false, signal, onProgress, onWarning = () => {} }: Omit<TinyOptions, "device">,
  { stages }: Pick<TinyPlan, "stages">,
  secondsPerStep: number,
): Runner {
  let pace = secondsPerStep;
  const done: { name: string; steps: number; seconds: number }[] = [];
  const left = (name: string, step: number): number => {
    const at = stages.findIndex((stage) => stage.name === name);
    const rest = stages.slice(at).map(({ steps, cost }, i) => cost * (i === 0 ? Math.max(0, steps - step) : steps));
    return pace * rest.reduce((sum, one) => sum + one, 0);
  };
  return {
    done,

    async stage(task) {
      const began = performance.now();
      const { name } = task;
      const where = folder && join(folder, name);
      if (where) await mkdir(where, { recursive: true });
      const saved = where && resume ? await latestCheckpoint(join(where, "checkpoints"), onWarning) : null;
      const cost = stages.find((stage) => stage.name === name)?.cost ?? 1;
      const { step, end } = await runTask(task, {
        checkpointEvery: CHECKPOINT_EVERY,
        keep: { last: 2 },
        ...(where && { folder: where }),
        ...(saved && { resume: saved.path }),
        ...(signal && { signal }),
        onStep({ step, losses, milliseconds }) {
          pace += 0.05 * (milliseconds / 1000 / cost - pace);
          onProgress?.({
            stage: name as StagePlan["name"],
            step,
            steps: task.steps,
            losses,
            secondsLeft: left(name, step),
          });
        },
      });
      if (end === "stopped") throw new Stopped();
      const seconds = (performance.now() - began) / 1000;
      done.push({ name, steps: step, seconds });
      return seconds;
    },

    async score(arm, trainingSeconds, score) {
      if (signal?.aborted) throw new Stopped();
      const last = stages.findIndex(({ name }) => name === done.at(-1)?.name);
      const secondsLeft = stages.slice(last + 1).reduce((sum, { steps, cost }) => sum + pace * steps * cost, 0);
      onProgress?.({ stage: `evaluating ${arm}`, step: 0, steps: 0, losses: {}, secondsLeft });
      const result = await score();
      const { accuracy, thoughts, seconds } = result;
      const details = "ablations" in result ? { details: result as unknown as ThoughtScore } : {};
      return { arm, accuracy, thoughts, seconds, trainingSeconds, ...details };
    },
  };
}
