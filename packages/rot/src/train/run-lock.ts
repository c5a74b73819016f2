/** One trainer a run folder: a lock file that names its process, and that a dead process cannot hold. */
import { type FileHandle, open, readFile, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { UsageError } from "@rot/tensor";

/** A lock that is held. */
export interface RunLock extends AsyncDisposable {
  release(): Promise<void>;
}

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, as the system counts it: a pid alone may be used again. */
  readonly began: string;
}

const FILE = "run.lock";
/** Taking a lock over takes milliseconds. */
const TAKEOVER_MILLISECONDS = 10_000;

/**
 * Takes the lock of a run folder, over from a process that is no more if need be.
 *
 * @throws {UsageError} when another process trains there, with its pid
 */
export async function lockRun(folder: string): Promise<RunLock> {
  const path = join(folder, FILE);
  const own = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    began: await beginOf(process.pid),
  } satisfies Holder);
  for (let attempt = 0; attempt < 50; attempt++) {
    const handle = await create(path);
    if (handle) {
      await handle.writeFile(own).finally(() => handle.close());
      const release = (): Promise<void> => rm(path, { force: true });
      return { release, [Symbol.asyncDispose]: release };
    }
    const holder = await refuseLocked(folder);
    if (holder !== "gone") await removeStale(path, holder);
  }
  throw new UsageError(`${path} changes hands too fast to be taken: are several trainers being started in ${folder}?`);
}

/**
 * Looks whether a run folder is free, without taking its lock.
 *
 * @returns  the holder of a stale lock, null where the lock does not tell it, `gone` where there is no lock
 * @throws {UsageError} when another process trains there, with its pid
 */
export async function refuseLocked(folder: string): Promise<Holder | null | "gone"> {
  const path = join(folder, FILE);
  const holder = await holderOf(path);
  if (holder && holder !== "gone" && (holder.host !== hostname() || (await isAlive(holder)))) {
    throw new UsageError(
      `${folder} is being trained in by process ${holder.pid} on ${holder.host}: wait for it, stop it, or choose another --output (if it is surely dead, delete ${path})`,
    );
  }
  return holder;
}

/** Removes the lock of a dead process, one starter at a time: a second one must not remove the lock that the first then takes. */
async function removeStale(path: string, holder: Holder | null): Promise<void> {
  const mutex = `${path}.takeover`;
  const handle = await create(mutex);
  if (!handle) {
    const { mtimeMs } = await stat(mutex).catch(() => ({ mtimeMs: Infinity }));
    if (Date.now() - mtimeMs > TAKEOVER_MILLISECONDS) await rm(mutex, { force: true }); // its maker died over it
    await pause();
    return;
  }
  try {
    await handle.close();
    const now = await holderOf(path);
    if (now !== "gone" && now?.pid === holder?.pid && now?.began === holder?.began) await rm(path, { force: true });
  } finally {
    await rm(mutex, { force: true });
  }
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

async function create(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "wx");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return null;
    throw error;
  }
}

/** Who holds a lock; null when its file says nothing, which is what a process killed while writing it leaves. */
async function holderOf(path: string): Promise<Holder | null | "gone"> {
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      const holder = JSON.parse(await readFile(path, "utf8")) as Holder;
      return typeof holder.pid === "number" && typeof holder.host === "string" ? holder : null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return "gone";
      await pause(); // perhaps it is being written just now
    }
  }
  return null;
}

async function isAlive({ pid, began }: Holder): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return (await beginOf(pid)) === began;
}

/** When a process began: field 22 of its line in /proc. Systems without that answer with the same text for all. */
async function beginOf(pid: number): Promise<string> {
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return line.slice(line.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
