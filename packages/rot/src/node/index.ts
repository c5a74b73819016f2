/** What of this package needs Node: files in, files out. */
export * from "../convert/index.ts";
export * from "../data/node/index.ts";
export {
  type CheckpointFolder,
  CheckpointError,
  latestCheckpoint,
  verifyCheckpoint,
} from "../train/checkpoint-folder.ts";
export { type RunEvents, type StageOutcome, trainRun, type TrainRunOptions } from "../train/node/train-run.ts";
