/** Whether a disk has room for the checkpoints of a run, before hours of work are lost on it. */
import { statfs } from "node:fs/promises";
import type { RunConfig } from "../../config/schema.ts";
import { DiskError, onDisk } from "../disk-error.ts";
import type { TrainingTask } from "../task.ts";
import type { Note } from "./run-checks.ts";

/** Bytes in a checkpoint for each number that learns: itself, two moments, and its copy in the model. */
const CHECKPOINT_BYTES = 16;

/** What checkpoints need and what there is, in bytes. */
export interface CheckpointRoom {
  readonly one: number;
  /** How many may be there at one time: the latest and those kept for good, the best, and the newest before the oldest goes. */
  readonly count: number;
  readonly free: number;
}

/**
 * Looks for room.
 *
 * @param folder  as messages name it
 * @param where   a folder on the same disk that is there
 * @throws {DiskError} when not even one checkpoint fits
 */
export async function checkRoom(
  folder: string,
  { parameters, steps }: Pick<TrainingTask, "parameters" | "steps">,
  keep: RunConfig["checkpoint"],
  note: Note,
  where = folder,
): Promise<CheckpointRoom> {
  const one = CHECKPOINT_BYTES * [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
  const { bavail, bsize } = await onDisk(folder, () => statfs(where));
  const free = bavail * bsize;
  const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
  if (free < one) {
    throw new DiskError(
      `${folder}: a checkpoint needs about ${megabytes(one)}, and ${megabytes(free)} are free: make room, or choose another --output`,
    );
  }
  const count = mostCheckpoints(steps, keep);
  if (free < count * one) {
    note(
      `${folder}: ${count} checkpoints need about ${megabytes(count * one)}, and ${megabytes(free)} are free; lower checkpoint.keep_last${keep.keep_every === null ? "" : ", or raise checkpoint.keep_every"}`,
    );
  }
  return { one, count, free };
}

/** How many checkpoints there are at one time, at most. */
export function mostCheckpoints(
  steps: number,
  { every, keep_last: last, keep_every: keepEvery }: RunConfig["checkpoint"],
): number {
  if (keepEvery === null) return last + 2;
  // One is written only after every so many steps, so what stays is what both divide.
  const common = (a: number, b: number): number => (b === 0 ? a : common(b, a % b));
  return last + 2 + Math.floor(steps / ((every / common(every, keepEvery)) * keepEvery));
}
