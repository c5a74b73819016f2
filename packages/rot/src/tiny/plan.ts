/** What of the tiny model's training is done in the time there is. */
import type { TinyRow } from "./results.ts";

/** What is compared: no chain, a chain as text, Render-of-Thought, and its second stage alone. */
export const tinyArms = ["direct", "chain", "rot", "without-stage1"] as const;
export type TinyArm = (typeof tinyArms)[number];

/** A part of the work. */
export interface StagePlan {
  readonly name:
    | "reading"
    | "chains"
    | "cooldown"
    | "direct"
    | "stage1"
    | "stage2"
    | "without-stage1"
    | `evaluating ${TinyRow["arm"]}`;
  /** Steps that it is expected to take. */
  readonly steps: number;
  /** Time of a step, in steps of `chains`: measured on lavapipe and on SwiftShader, between which it differs little. */
  readonly cost: number;
}

const base: readonly StagePlan[] = [
  { name: "reading", steps: 300, cost: 1.1 },
  { name: "chains", steps: 1400, cost: 1 },
  { name: "cooldown", steps: 300, cost: 1 },
];
const ofArm: Readonly<Record<TinyArm, readonly StagePlan[]>> = {
  direct: [
    { name: "direct", steps: 1200, cost: 0.55 },
    { name: "evaluating direct", steps: 1, cost: 3 },
  ],
  chain: [{ name: "evaluating chain", steps: 1, cost: 5 }],
  rot: [
    { name: "stage1", steps: 500, cost: 1.35 },
    { name: "evaluating rot-stage1", steps: 1, cost: 20 },
    { name: "stage2", steps: 150, cost: 2.15 },
    { name: "evaluating rot", steps: 1, cost: 20 },
  ],
  "without-stage1": [
    { name: "without-stage1", steps: 650, cost: 2.15 },
    { name: "evaluating without-stage1", steps: 1, cost: 20 },
  ],
};

/** What will be trained. */
export interface TinyPlan {
  /** Whether the base is trained too, or the one that comes with the package is taken. */
  readonly base: "train" | "shipped";
  readonly arms: readonly TinyArm[];
  readonly stages: readonly StagePlan[];
  /** What all of it is expected to take. */
  readonly seconds: number;
  /** What was left out for want of time, in words; empty where nothing was. */
  readonly leftOut: readonly string[];
}

/** What a plan is made of. */
export interface PlanOptions {
  readonly base: "train" | "shipped";
  readonly arms: readonly TinyArm[];
  /** Measured on this device: a step of `chains`. */
  readonly secondsPerStep: number;
  /** Seconds that may be spent. */
  readonly budget: number;
}

/** What stages are expected to take. */
export const secondsOf = (stages: readonly StagePlan[], secondsPerStep: number): number =>
  secondsPerStep * stages.reduce((sum, { steps, cost }) => sum + steps * cost, 0);

const stagesOf = (from: "train" | "shipped", arms: readonly TinyArm[]): StagePlan[] => [
  ...(from === "train" ? base : []),
  ...tinyArms.filter((arm) => arms.includes(arm)).flatMap((arm) => ofArm[arm]),
];

/**
 * As much of what is wanted as fits: first the base is taken as shipped, then the arm without stage 1 goes, then the one
 * without a chain. Render-of-Thought itself stays.
 */
export function planTiny({ base: from, arms, secondsPerStep, budget }: PlanOptions): TinyPlan {
  const drops: readonly { readonly what: string; readonly arm?: TinyArm }[] = [
    ...(from === "train" ? [{ what: "the training of the base (the one in the package is taken)" }] : []),
    { what: "Render-of-Thought without stage 1", arm: "without-stage1" },
    { what: "answers at once", arm: "direct" },
  ];
  let [source, wanted] = [from, arms];
  const leftOut: string[] = [];
  const seconds = (): number => secondsOf(stagesOf(source, wanted), secondsPerStep);
  for (const { what, arm } of drops) {
    if (arm && !arms.includes(arm)) continue;
    if (seconds() <= budget) break;
    leftOut.push(what);
    if (arm) wanted = wanted.filter((one) => one !== arm);
    else source = "shipped";
  }
  return { base: source, arms: wanted, stages: stagesOf(source, wanted), seconds: seconds(), leftOut };
}

/**
 * What of a plan is still done, now that it has come to an arm and the pace is known better.
 *
 * @returns  the plan itself if all of it fits; else another, whose `seconds` are those from here
 */
export function replan(plan: TinyPlan, from: TinyArm, pace: Pick<PlanOptions, "secondsPerStep" | "budget">): TinyPlan {
  const isDone = (arm: TinyArm): boolean => tinyArms.indexOf(arm) < tinyArms.indexOf(from);
  const rest = planTiny({ base: "shipped", arms: plan.arms.filter((arm) => !isDone(arm)), ...pace });
  if (rest.leftOut.length === 0) return plan;
  const arms = plan.arms.filter((arm) => isDone(arm) || rest.arms.includes(arm));
  const leftOut = [...plan.leftOut, ...rest.leftOut];
  return { base: plan.base, arms, stages: stagesOf(plan.base, arms), seconds: rest.seconds, leftOut };
}
