/** Checkpoints in and out of other people's formats. Node only: everything here reads or writes files. */
export * from "./export/index.ts";
export type { OnProgress } from "./files.ts";
export {
  type CheckpointFormat,
  checkpointFormats,
  fromSafetensors,
  type FromSafetensorsOptions,
  type FromSafetensorsResult,
} from "./from-safetensors.ts";
export * from "./import/index.ts";
export {
  type CheckpointDifference,
  compareCheckpoints,
  inspectCheckpoint,
  inspectGlobals,
  type Inspection,
  type TensorSummary,
} from "./inspect.ts";
export { type Checkpoint, type CheckpointTensor, openCheckpoint } from "./open-checkpoint.ts";
export { cleanName, findStateDict } from "./state-dict.ts";
export { toSafetensors, type ToSafetensorsOptions, type ToSafetensorsResult } from "./to-safetensors.ts";
export { TorchFileError, type TorchRule } from "./torch-pickle/error.ts";
export type { WritableValue } from "./torch-pickle/pickle.ts";
export { type GlobalsFound, listGlobals, openTorchFile, type TorchFile } from "./torch-pickle/reader.ts";
export { type PickleValue, TorchDevice, TorchDType, TorchStorage, TorchTensor, Tuple } from "./torch-pickle/values.ts";
export type { NamedTensor } from "./torch-pickle/walk.ts";
export { type TensorToWrite, writeTorchFile } from "./torch-pickle/writer.ts";
