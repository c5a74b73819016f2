/** The embedded default: a tiny model learns to think in pictures, and is compared with itself without that. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pretrained } from "@rot/models";
import { type Device, key } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { z } from "zod";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { CheckpointError } from "../../train/checkpoint-folder.ts";
import { runTask } from "../../train/run-task.ts";
import { createTinyHead, directTask, firstStage, type Head, secondStage } from "../arms.ts";
import { chainTask, cooldownTask, type Material, readingTask, scaleLatents } from "../base.ts";
import { scoreChain, scoreDirect, scoreThoughts, thoughtAccuracy } from "../evaluate.ts";
import { copyOf, createTiny } from "../model.ts";
import { planTiny, replan, type TinyArm, tinyArms, type TinyPlan } from "../plan.ts";
import { createProblems } from "../problems.ts";
import type { TinyResults, TinyRow } from "../results.ts";
import { createStrips } from "../strips.ts";
import { type TinyBundles, tinyBundles } from "./bundles.ts";
import { type Runner, runner, type RunnerOptions, Stopped } from "./runner.ts";
import { openShippedBase } from "./shipped.ts";

/** What {@link trainTiny} takes. */
export interface TinyOptions extends RunnerOptions {
  readonly device: Device;
  /** 0 by default. */
  readonly seed?: number;
  /** What to compare; all by default. */
  readonly arms?: readonly TinyArm[];
  /** Train the base too (the default), or take the one that comes with the package. */
  readonly base?: "train" | "shipped";
  /** Seconds within which everything shall end, 900 by default: what does not fit is left out. */
  readonly budget?: number;
  /** Told of the plan, and of another if time becomes short. */
  readonly onPlan?: (plan: TinyPlan) => void;
}

/**
 * Trains and compares. With a folder, what was interrupted goes on with the same bits.
 *
 * @throws {UsageError | NumericError | CheckpointError} as training does
 */
export async function trainTiny(options: TinyOptions): Promise<TinyResults> {
  const { device, seed = 0, arms = tinyArms, base: from = "train", budget = 900, onPlan, onProgress } = options;
  const begun = performance.now();
  const material: Material = {
    problems: createProblems(),
    strips: await createStrips(device, await dejaVuSans()),
  };
  const kept = await keptPlan(options);
  if (!kept) onProgress?.({ ...MEASURING, secondsLeft: budget });
  const secondsPerStep = kept?.secondsPerStep ?? (await measure(device, material, options.afterStep));
  const elapsed = (): number => (performance.now() - begun) / 1000;
  const limit = kept ? Infinity : budget;
  let plan = planTiny({ base: from, arms, secondsPerStep, ...kept, budget: limit - elapsed() });
  if (options.folder && !kept) await keepPlan(options.folder, { ...plan, secondsPerStep });
  onPlan?.(plan);
  const run = runner(options, () => plan.stages, secondsPerStep);
  const rows: TinyRow[] = [];
  const results = (end: TinyResults["end"]): TinyResults => ({
    end,
    plan,
    problems: material.problems.test.length,
    rows,
    stages: run.done,
    seconds: elapsed(),
  });
  try {
    const base =
      plan.base === "shipped"
        ? await openShippedBase(device)
        : await trainBase(device, material, { ...options, seed }, run);
    const { folder } = options;
    const bundles = folder === undefined ? null : await tinyBundles(base, plan.base === "shipped" ? null : folder);
    for (const arm of tinyArms) {
      const now = replan(plan, arm, { secondsPerStep: run.pace, budget: limit - elapsed() });
      if (now !== plan) onPlan?.((plan = now));
      if (plan.arms.includes(arm)) rows.push(...(await armOf[arm](base, { material, seed, run, bundles })));
    }
    return results("finished");
  } catch (error) {
    if (error instanceof Stopped) return results("stopped");
    throw error;
  }
}

const PLAN = "plan.json";
const planSchema = z.object({
  base: z.enum(["train", "shipped"]),
  arms: z.array(z.enum(tinyArms)).readonly(),
  secondsPerStep: z.number().positive(),
});
type KeptPlan = z.infer<typeof planSchema>;

/** What a run that is gone on with had decided to do: the machine may be busier or idler now. */
async function keptPlan({ folder, resume }: TinyOptions): Promise<KeptPlan | null> {
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

async function keepPlan(folder: string, { base, arms, secondsPerStep }: Readonly<KeptPlan>): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFileAtomically(join(folder, PLAN), [
    new TextEncoder().encode(`${JSON.stringify({ base, arms, secondsPerStep })}\n`),
  ]);
}

const MEASURING = { stage: "measuring", step: 0, steps: 0, mayEndEarly: false, losses: {} } as const;
/** Steps that compile kernels, and steps to measure. */
const [COMPILED, MEASURED] = [2, 5] as const;

/** Seconds of a step of the chains: the middle one of some, since others may use the machine too. */
async function measure(device: Device, material: Material, afterStep: TinyOptions["afterStep"]): Promise<number> {
  const base = createTiny(device, 0);
  const task = chainTask(base, material, { seed: 0 });
  const times: number[] = [];
  const onStep = ({ milliseconds }: { readonly milliseconds: number }): unknown => {
    times.push(milliseconds);
    return afterStep?.();
  };
  await runTask({ ...task, steps: COMPILED + MEASURED }, { onStep });
  for (const tensor of [...task.parameters.values(), ...base.weights.values()]) tensor.dispose();
  const sorted = times.slice(COMPILED).toSorted((a, b) => a - b);
  return (sorted[(MEASURED - 1) / 2] as number) / 1000;
}

/** Problems of a validation. */
const VALIDATED = 200;

/** How often a base is tried. */
const ATTEMPTS = 3;

/**
 * Trains a base. Some beginnings take very long to understand chains, and which they are is a matter of last bits. Another one
 * is begun then.
 */
export async function trainBase(
  device: Device,
  material: Material,
  { seed, onWarning = () => {} }: Pick<TinyOptions, "onWarning"> & { readonly seed: number },
  run: Runner,
): Promise<Pretrained> {
  const problems = material.problems.validation.slice(0, VALIDATED);
  for (let attempt = 1; ; attempt++) {
    const own = { seed: key(seed).for("tiny.base", attempt) };
    const base = createTiny(device, own.seed);
    const accuracy = async (): Promise<number> => (await scoreChain(base.model, problems)).accuracy;
    await run.stage(readingTask(base, material, own), { attempt });
    await scaleLatents(base, material);
    const { reached } = await run.stage(chainTask(base, material, own), { accuracy, attempt });
    if (reached || attempt === ATTEMPTS) {
      if (!reached) {
        onWarning(
          "chains: the losses are not where they should be, so that what follows will do badly; try another seed",
        );
      }
      await run.stage(cooldownTask(base, material, own), { accuracy });
      return base;
    }
    onWarning("chains: stuck, as happens to some beginnings; another one is tried");
  }
}

interface ArmOptions {
  readonly material: Material;
  readonly seed: number;
  readonly run: Runner;
  readonly bundles: TinyBundles | null;
}

const armOf: Readonly<Record<TinyArm, (base: Pretrained, options: ArmOptions) => Promise<TinyRow[]>>> = {
  async direct(base, { material, seed, run }) {
    const { model, ...own } = copyOf(base);
    const { test, validation } = material.problems;
    const accuracy = async (): Promise<number> => (await scoreDirect(model, validation.slice(0, VALIDATED))).accuracy;
    const { seconds } = await run.stage(directTask({ model, ...own }, material, { seed }), { accuracy });
    return [await run.score("direct", seconds, () => scoreDirect(model, test))];
  },

  chain: async (base, { material, run }) => [
    await run.score("chain", 0, () => scoreChain(base.model, material.problems.test)),
  ],

  async rot(base, options) {
    const { material, seed, run, bundles } = options;
    const head = createTinyHead(base, seed);
    const firstThinker = thinkers(base, base, head, options);
    const { seconds: first } = await run.stage(firstStage(base, head, material, { seed }), {
      accuracy: firstThinker.accuracy,
      contents: bundles?.(base, head),
    });
    const afterFirst = await run.score("rot-stage1", first, firstThinker.score);
    const { task, model } = secondStage(base, head, material, { seed });
    const { accuracy, score } = thinkers(base, model, head, options);
    const { seconds } = await run.stage(task, { accuracy, contents: bundles?.(model, head) });
    return [afterFirst, await run.score("rot", first + seconds, score)];
  },

  async "without-stage1"(base, options) {
    const { material, seed, run, bundles } = options;
    const head = createTinyHead(base, key(seed).for("tiny.without-stage1"));
    const settings = { seed, name: "without-stage1", steps: 650, lr: 2e-3 };
    const { task, model } = secondStage(base, head, material, settings);
    const { accuracy, score } = thinkers(base, model, head, options);
    const { seconds } = await run.stage(task, { accuracy, contents: bundles?.(model, head) });
    return [await run.score("without-stage1", seconds, score)];
  },
};

/** What a model with a head comes to: in short on validation problems, in full on those of the test. */
function thinkers(base: Pretrained, { model }: Pretrained, head: Head, { material }: ArmOptions) {
  const thinker = { model, head: head.project };
  const { test, validation } = material.problems;
  return {
    accuracy: () => thoughtAccuracy(thinker, validation.slice(0, VALIDATED)),
    score: () => scoreThoughts(thinker, base.model, material.strips, test),
  };
}
