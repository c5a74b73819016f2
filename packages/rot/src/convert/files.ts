/** Folders written so that nobody sees half of one. */
import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UsageError } from "@rot/tensor";

/** Called as work goes on. */
export type OnProgress = (step: { readonly done: number; readonly total: number; readonly unit: "bytes" }) => void;

/** The entries of a folder; undefined when there is none. */
export async function listFolder(path: string): Promise<string[] | undefined> {
  try {
    return await readdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === "ENOTDIR") throw new UsageError(`${path} is a file, but a folder is wanted`);
    throw error;
  }
}

/**
 * Makes a folder by writing it beside its place and renaming it when it is whole. Where the place is a folder with
 * other files, the new files are moved into it one by one, in the order of `names`.
 *
 * @param names the files that `write` will make, what depends on others after them
 * @throws {UsageError} when one of them is there already
 */
export async function writeFolder(path: string, names: readonly string[], write: (folder: string) => Promise<void>) {
  const before = await listFolder(path);
  const taken = before?.find((name) => names.includes(name));
  if (taken !== undefined)
    throw new UsageError(`${join(path, taken)} is there already: remove it, or choose another --output`);
  const beside = `${path.replace(/[/\\]+$/, "")}.${randomUUID()}.partial`;
  await mkdir(beside, { recursive: true });
  try {
    await write(beside);
    if (before === undefined) {
      await rename(beside, path);
    } else {
      for (const name of names) await rename(join(beside, name), join(path, name));
      await sync(path);
    }
    await sync(dirname(path));
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

/** Makes renames last. Windows has no such call for folders. */
async function sync(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  await handle.sync().finally(() => handle.close());
}

/**
 * Fails before hours of work when the disk is too small.
 *
 * @param folder one that exists
 * @throws an `ENOSPC` error that names both sizes
 */
export async function requireSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes) return;
  const message = `${folder}: ${bytes} bytes are needed, but only ${free} are free on this disk`;
  throw Object.assign(new Error(message), { code: "ENOSPC" });
}
