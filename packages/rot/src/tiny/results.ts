/** What the tiny model's training comes to. */
import type { Score, ThoughtScore } from "./evaluate.ts";
import type { TinyPlan } from "./plan.ts";

/** A line of the table. */
export interface TinyRow extends Score {
  readonly arm: "direct" | "chain" | "rot-stage1" | "rot" | "without-stage1";
  /** Seconds to train what the base does not have; those of an earlier run that was resumed are not counted. */
  readonly trainingSeconds: number;
  /** Of the arms that think in latents. */
  readonly details?: ThoughtScore;
}

/** What came of it. */
export interface TinyResults {
  readonly end: "finished" | "stopped";
  readonly plan: TinyPlan;
  /** Problems of the test. */
  readonly problems: number;
  readonly rows: readonly TinyRow[];
  /** Steps and seconds of each stage, as far as they were done now. */
  readonly stages: readonly { readonly name: string; readonly steps: number; readonly seconds: number }[];
  readonly seconds: number;
}
