/** Checkpoints of the published trainer as run folders of ours. Node only. */
export { importCheckpoint, type ImportOptions, type ImportResult } from "./import-checkpoint.ts";
export type { ImportedStage } from "./run-folder.ts";
