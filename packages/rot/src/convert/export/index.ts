/** Checkpoints of ours in other people's formats. Node only. */
export { exportCheckpoint, type ExportOptions, type ExportResult } from "./export-checkpoint.ts";
export { type ExportFormat, exportFormats } from "./model-card.ts";
