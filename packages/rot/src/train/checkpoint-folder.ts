/**
 * Checkpoints as folders that are whole or not there: written aside, synced, renamed; a manifest knows the size and
 * SHA-256 of every file, so that what a disk or a cable changed later is noticed.
 */
import { createHash, randomUUID } from "node:crypto";
import * as nodeFiles from "node:fs/promises";
import { join } from "node:path";

/** The calls to the file system, so that tests can make the n-th of them fail. */
export type Files = Pick<typeof nodeFiles, "mkdir" | "open" | "readdir" | "readFile" | "rename" | "rm" | "stat">;

/** What a checkpoint holds: the bytes of each file. */
export type Contents = Readonly<Record<string, AsyncIterable<Uint8Array> | Iterable<Uint8Array>>>;

/** A checkpoint that its manifest agrees with. */
export interface CheckpointFolder {
  readonly step: number;
  readonly path: string;
}

/** A checkpoint that is damaged. `message` names the file and what is wrong with it. */
export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
}

interface Manifest {
  readonly format: 1;
  readonly step: number;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

const MANIFEST = "manifest.json";
const folderName = (step: number): string => `step-${String(step).padStart(8, "0")}`;

/** Where the checkpoint after a step is. */
export const checkpointPath = (parent: string, step: number): string => join(parent, folderName(step));

/** The step in a folder's name, or null for what is no checkpoint. */
function stepOf(name: string): number | null {
  const digits = /^step-(\d{8,})$/.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

/**
 * Writes a checkpoint. Until it is whole, nothing under its name can be seen; an error leaves the older ones as they were.
 *
 * @param parent    the folder of all checkpoints; made if need be
 * @param step      optimizer steps done
 * @param contents  written one after another
 * @returns         the path of the checkpoint
 * @throws the system's own error (`ENOSPC`, …) when it cannot be written
 */
export async function writeCheckpoint(
  parent: string,
  step: number,
  contents: Contents,
  files: Files = nodeFiles,
): Promise<string> {
  await files.mkdir(parent, { recursive: true });
  const path = join(parent, folderName(step));
  const aside = join(parent, `.writing-${folderName(step)}-${randomUUID()}`);
  await files.mkdir(aside);
  try {
    const entries: Record<string, { bytes: number; sha256: string }> = {};
    for (const [name, chunks] of Object.entries(contents)) {
      entries[name] = await writeSynced(join(aside, name), chunks, files);
    }
    const manifest: Manifest = { format: 1, step, files: entries };
    await writeSynced(join(aside, MANIFEST), [Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`)], files);
    await syncFolder(aside, files);
    // The same step may have been written before a resume from an older one.
    await setAside(parent, folderName(step), files);
    await files.rename(aside, path);
    await syncFolder(parent, files);
    return path;
  } catch (error) {
    await files.rm(aside, { recursive: true, force: true }).catch(() => {}); // the first error is the one to report
    throw error;
  }
}

async function writeSynced(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  files: Files,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  const handle = await files.open(path, "wx");
  let bytes = 0;
  try {
    for await (const chunk of chunks) {
      hash.update(chunk);
      for (let at = 0; at < chunk.length;) at += (await handle.write(chunk, at)).bytesWritten;
      bytes += chunk.length;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Makes what was created in a folder, or renamed into it, last. Windows has no such call. */
async function syncFolder(path: string, files: Files): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await files.open(path, "r");
  await handle.sync().finally(() => handle.close());
}

/**
 * Checks a checkpoint against its manifest.
 *
 * @throws {CheckpointError} naming the file that is missing, cut or changed
 */
export async function verifyCheckpoint(path: string, files: Files = nodeFiles): Promise<CheckpointFolder> {
  const manifest = await readManifest(path, files);
  for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const file = join(path, name);
    const found = await files.stat(file).catch(() => null);
    if (!found) throw new CheckpointError(`${file} is missing`);
    if (found.size !== bytes) throw new CheckpointError(`${file} has ${found.size} bytes, its manifest says ${bytes}`);
    const hash = createHash("sha256");
    const handle = await files.open(file, "r");
    try {
      for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk as Uint8Array);
    } finally {
      await handle.close();
    }
    if (hash.digest("hex") !== sha256)
      throw new CheckpointError(`${file} is not what was written: its SHA-256 differs`);
  }
  return { step: manifest.step, path };
}

async function readManifest(path: string, files: Files): Promise<Manifest> {
  const file = join(path, MANIFEST);
  let manifest: Manifest;
  try {
    manifest = JSON.parse(await files.readFile(file, "utf8")) as Manifest;
  } catch (error) {
    throw new CheckpointError(`${file} cannot be read: ${(error as Error).message}`);
  }
  if (manifest?.format !== 1) {
    throw new CheckpointError(`${file} has format ${String(manifest?.format)}, and this version reads 1`);
  }
  const entries = Object.entries(manifest.files ?? {});
  const plain = entries.every(
    ([name, entry]) => /^[\w.-]+$/.test(name) && Number.isSafeInteger(entry?.bytes) && typeof entry.sha256 === "string",
  );
  if (!Number.isSafeInteger(manifest.step) || entries.length === 0 || !plain) {
    throw new CheckpointError(`${file} does not list the files of a checkpoint`);
  }
  return manifest;
}

/** The steps of all checkpoints in a folder, the latest last, whole or not. */
export async function listCheckpoints(parent: string, files: Files = nodeFiles): Promise<readonly number[]> {
  const names = await files.readdir(parent).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return names
    .map(stepOf)
    .filter((step) => step !== null)
    .toSorted((a, b) => a - b);
}

/**
 * The latest checkpoint that is whole.
 *
 * @param warn  told of each later one that is damaged
 * @returns     null when there is none
 */
export async function latestCheckpoint(
  parent: string,
  warn: (message: string) => void,
  files: Files = nodeFiles,
): Promise<CheckpointFolder | null> {
  for (const step of (await listCheckpoints(parent, files)).toReversed()) {
    try {
      return await verifyCheckpoint(join(parent, folderName(step)), files);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      warn(`${error.message}; the checkpoint before it is used, if there is one`);
    }
  }
  return null;
}

/**
 * Takes the checkpoints after a step out of the count: they are damaged, or somebody went back to an earlier one. They are kept
 * under another name, and take the place of others that were so.
 *
 * @returns  where they are now
 */
export async function replaceLater(parent: string, step: number, files: Files = nodeFiles): Promise<string[]> {
  const moved: string[] = [];
  for (const later of (await listCheckpoints(parent, files)).filter((each) => each > step)) {
    const to = join(parent, `replaced-${folderName(later)}`);
    await files.rm(to, { recursive: true, force: true });
    await files.rename(join(parent, folderName(later)), to);
    moved.push(to);
  }
  return moved;
}

/** Which checkpoints stay. */
export interface Keep {
  /** The latest so many, at least 1. */
  readonly last: number;
  /** Also every step that this divides. */
  readonly every?: number;
  /** Also this one: the best by validation. */
  readonly best?: number;
}

/** Removes the checkpoints that need not stay. Call it after a new one is written, never before. */
export async function pruneCheckpoints(
  parent: string,
  { last, every, best }: Keep,
  files: Files = nodeFiles,
): Promise<void> {
  const steps = await listCheckpoints(parent, files);
  const latest = new Set(steps.slice(-Math.max(1, last)));
  for (const step of steps) {
    if (latest.has(step) || step === best || (every && step % every === 0)) continue;
    await setAside(parent, folderName(step), files);
  }
}

/** Takes a checkpoint out of sight in one step and then removes it, so that nobody sees half of it. */
async function setAside(parent: string, name: string, files: Files): Promise<void> {
  const aside = join(parent, `.deleting-${name}-${randomUUID()}`);
  try {
    await files.rename(join(parent, name), aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await files.rm(aside, { recursive: true, force: true });
}

/** Removes what a process that was killed left half written or half deleted. Only for who holds the run's lock. */
export async function removeLeftovers(parent: string, files: Files = nodeFiles): Promise<void> {
  const names = await files.readdir(parent).catch(() => []);
  for (const name of names) {
    if (/^\.(writing|deleting)-/.test(name)) await files.rm(join(parent, name), { recursive: true, force: true });
  }
}
