/** What of the tiny model's training is done in the time there is. */

/** What is compared: no chain, a chain as text, Render-of-Thought, and its second stage alone. */
export const tinyArms = ["direct", "chain", "rot", "without-stage1"] as const;
export type TinyArm = (typeof tinyArms)[number];

/** A part of the training. */
export interface StagePlan {
  readonly name: "reading" | "chains" | "direct" | "stage1" | "stage2" | "without-stage1";
  /** Steps that it is expected to take. */
  readonly steps: number;
  /** Time of a step, in steps of `chains`. */
  readonly cost: number;
}

const base: readonly StagePlan[] = [
  { name: "reading", steps: 300, cost: 1.5 },
  { name: "chains", steps: 1400, cost: 1 },
];
const ofArm: Readonly<Record<TinyArm, readonly StagePlan[]>> = {
  direct: [{ name: "direct", steps: 1200, cost: 0.5 }],
  chain: [],
  rot: [
    { name: "stage1", steps: 500, cost: 1.5 },
    { name: "stage2", steps: 150, cost: 2.2 },
  ],
  "without-stage1": [{ name: "without-stage1", steps: 650, cost: 2.2 }],
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
  /** What may be spent. */
  readonly budget: number;
}

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
    ...(from === "train" ? [{ what: "the base, for which the one in the package is taken" }] : []),
    ...(["without-stage1", "direct"] as const)
      .filter((arm) => arms.includes(arm))
      .map((arm) => ({ what: `the arm ${arm}`, arm })),
  ];
  let [source, wanted] = [from, arms];
  const leftOut: string[] = [];
  const seconds = (): number =>
    secondsPerStep * stagesOf(source, wanted).reduce((sum, { steps, cost }) => sum + steps * cost, 0);
  for (const { what, arm } of drops) {
    if (seconds() <= budget) break;
    leftOut.push(what);
    if (arm) wanted = wanted.filter((one) => one !== arm);
    else source = "shipped";
  }
  return { base: source, arms: wanted, stages: stagesOf(source, wanted), seconds: seconds(), leftOut };
}
