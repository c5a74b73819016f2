/** Checkpoints of the published trainer as run folders of ours. Node only. */
export { importCheckpoint, type ImportedStage, type ImportOptions, type ImportResult } from "./import-checkpoint.ts";
