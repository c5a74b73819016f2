/** What the process tells its caller. */
import { ConfigError, ContextError, ImageError, NumericError, TemplateError, TokenizerError } from "@rot/models";
import { DatasetError, FontError, RowError } from "@rot/rot";
import { CheckpointError, DiskError } from "@rot/rot/node";
import { DeviceError, OutOfMemoryError, ShapeError, UsageError, WeightError } from "@rot/tensor";
import { CommanderError } from "commander";

/** The exit codes of every command. */
export const exitCodes = {
  done: 0,
  internal: 1,
  /** `bench --compare` found a line slower than before. */
  slower: 1,
  usage: 2,
  badInput: 3,
  noDevice: 4,
  outOfMemory: 5,
  numeric: 6,
  disk: 7,
  retryable: 75,
  stopped: 85,
  interrupted: 130,
  terminated: 143,
} as const;

/** A problem that has an exit code of its own. */
export class ExitError extends Error {
  override readonly name = "ExitError";
  readonly code: number;

  constructor(message: string, code: number) {
    super(message);
    this.code = code;
  }
}

/** What is wrong with the files of a model, a dataset or a run, with pictures or prompts. */
const badFiles = [
  CheckpointError,
  ConfigError,
  ContextError,
  DatasetError,
  FontError,
  ImageError,
  RowError,
  TemplateError,
  TokenizerError,
];

/** The code for whatever a command threw. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ExitError) return error.code;
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof WeightError || error instanceof ShapeError) return exitCodes.badInput;
  if (badFiles.some((kind) => error instanceof kind)) return exitCodes.badInput;
  if (error instanceof NumericError) return exitCodes.numeric;
  if (error instanceof OutOfMemoryError) return exitCodes.outOfMemory;
  if (error instanceof DeviceError) return error.retryable ? exitCodes.retryable : exitCodes.noDevice;
  if (error instanceof DiskError) return exitCodes.disk;
  const system = (error as NodeJS.ErrnoException | null)?.code;
  if (["ENOSPC", "EDQUOT", "EROFS", "EIO"].includes(system ?? "")) return exitCodes.disk;
  if (["ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "EEXIST"].includes(system ?? "")) return exitCodes.badInput;
  return exitCodes.internal;
}
