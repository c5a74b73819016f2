/** What of this package needs Node: files in, files out. */
export * from "../convert/index.ts";
export * from "../data/node/index.ts";
export {
  type CheckpointFolder,
  CheckpointError,
  latestCheckpoint,
  verifyCheckpoint,
} from "../train/checkpoint-folder.ts";
export { DiskError } from "../train/disk-error.ts";
export type { MemoryEstimate } from "../train/rehearse.ts";
export { type Lengths, planRun, type PlanRunOptions, type RunPlan, type StagePlan } from "../train/node/plan-run.ts";
export { type RunEvents, type StageOutcome, trainRun, type TrainRunOptions } from "../train/node/train-run.ts";
export * from "../bundle/node/index.ts";
export * from "../evaluate/node/index.ts";
export { makeBase, type MakeBaseOptions } from "../tiny/node/make-base.ts";
export { type TinyOptions, trainTiny } from "../tiny/node/run-tiny.ts";
export type { TinyProgress, TinyValidation } from "../tiny/node/runner.ts";
export { isTiny } from "../tiny/node/bundles.ts";
export { openShippedBase, shippedBase } from "../tiny/node/shipped.ts";
export { type TinyArm, tinyArms, type TinyPlan } from "../tiny/plan.ts";
export type { ThoughtScore } from "../tiny/evaluate.ts";
export type { TinyResults, TinyRow } from "../tiny/results.ts";
export { tinyTable } from "../tiny/table.ts";
export { lockRun, type RunLock } from "../train/run-lock.ts";
export { rememberEvaluation, runOfCheckpoint, writeRunReport } from "../report/node/index.ts";
