/** Folders that are made once and kept: written aside, then renamed, so that a reader never sees half of one. */
import { lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

const MANIFEST = "manifest.json";
const DAY = 24 * 60 * 60 * 1000;

interface Manifest {
  /** Bytes of each file: a folder that was cut short by a full disk or a cleaner is made again. */
  readonly files: Readonly<Record<string, number>>;
}

/** A cache folder, and where things go when nothing can be written there. */
export class Cache {
  readonly #folders: readonly string[];

  constructor(folder: string, fallback: string = join(tmpdir(), `render-of-thought-${process.getuid?.() ?? 0}`)) {
    this.#folders = [folder, fallback];
  }

  /** The complete entries whose names start with `prefix`, newest first. */
  async find(prefix: string): Promise<string[]> {
    const found: { path: string; time: number }[] = [];
    for (const folder of this.#folders) {
      const names = await readdir(folder).catch(() => []);
      for (const name of names.filter((each) => each.startsWith(prefix) && !each.includes(".partial-"))) {
        const path = join(folder, name);
        if ((await isPrivate(folder)) && (await isComplete(path)))
          found.push({ path, time: (await stat(path)).mtimeMs });
      }
    }
    return found.toSorted((a, b) => b.time - a.time).map(({ path }) => path);
  }

  /**
   * The folder of an entry, made by `fill` if it is not there. Processes that race make it twice and keep one.
   *
   * @param name  changes whenever the contents would
   * @param fill  writes plain files into the folder it is given
   */
  async entry(name: string, fill: (folder: string) => Promise<void>): Promise<string> {
    for (const folder of this.#folders) {
      if ((await isPrivate(folder)) && (await isComplete(join(folder, name)))) return join(folder, name);
    }
    const folder = await this.writable();
    await sweep(folder);
    const path = join(folder, name);
    const partial = await mkdtemp(`${path}.partial-`);
    try {
      await fill(partial);
      await writeManifest(partial);
      for (let attempt = 0; attempt < 3; attempt++) {
        if (await moved(partial, path)) return path;
        if (await isComplete(path)) return path;
        await discard(path);
      }
      throw new Error(`${path} cannot be replaced`);
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  }

  /** The path of a file that lies in the folder itself; null where there is none. */
  async file(name: string): Promise<string | null> {
    for (const folder of this.#folders) {
      const path = join(folder, name);
      if ((await stat(path).catch(() => null))?.isFile() && (await isPrivate(folder))) return path;
    }
    return null;
  }

  /** The first folder that can be written to. */
  async writable(): Promise<string> {
    let reason: unknown;
    for (const folder of this.#folders) {
      try {
        await makeFolder(folder);
        await rm(await mkdtemp(join(folder, "probe.partial-")), { recursive: true });
        if (await isPrivate(folder)) return folder;
        reason = new Error(`${folder} belongs to or can be changed by others`);
      } catch (error) {
        reason = error;
      }
    }
    throw reason;
  }
}

/** A path as a person would write it. */
export function shortened(path: string): string {
  const home = homedir();
  return home.length > 1 && path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
}

/** Node's own recursive `mkdir` never returns for a path under /proc. */
async function makeFolder(folder: string): Promise<void> {
  const make = (): Promise<string> =>
    mkdir(folder, { mode: 0o700 }).then(
      () => "",
      (error: NodeJS.ErrnoException) =>
        error.code === "EEXIST" || error.code === "ENOENT" ? error.code : Promise.reject(error),
    );
  if ((await make()) !== "ENOENT") return;
  await makeFolder(dirname(folder));
  if ((await make()) === "ENOENT") throw new Error(`${folder} cannot be made`);
}

/** What lies here is loaded as code: in a shared folder such as /tmp, others must not have put it there. */
async function isPrivate(folder: string): Promise<boolean> {
  const user = process.getuid?.();
  if (user === undefined) return true;
  const status = await lstat(folder).catch(() => undefined);
  if (status === undefined) return false;
  const link = status.isSymbolicLink() ? await stat(folder).catch(() => status) : status;
  return (link.uid === user || link.uid === 0) && (link.mode & 0o002) === 0;
}

async function isComplete(path: string): Promise<boolean> {
  try {
    const manifest = JSON.parse(await readFile(join(path, MANIFEST), "utf8")) as Manifest;
    const sizes = Object.entries(manifest.files);
    const statuses = await Promise.all(sizes.map(([name]) => stat(join(path, basename(name)))));
    return sizes.every(([, size], index) => statuses[index]?.size === size);
  } catch {
    return false;
  }
}

async function writeManifest(folder: string): Promise<void> {
  const names = (await readdir(folder)).toSorted();
  const sizes = await Promise.all(names.map(async (name) => [name, (await stat(join(folder, name))).size] as const));
  const manifest: Manifest = { files: Object.fromEntries(sizes) };
  await writeFile(join(folder, MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

/** Removes what processes that were killed left behind. */
async function sweep(folder: string): Promise<void> {
  for (const name of (await readdir(folder)).filter((each) => each.includes(".partial-"))) {
    const path = join(folder, name);
    const status = await stat(path).catch(() => undefined);
    if (status && Date.now() - status.mtimeMs > DAY) await rm(path, { recursive: true, force: true });
  }
}

/** Out of the way first, so that a process that races never removes a whole entry file by file under another's feet. */
async function discard(path: string): Promise<void> {
  const aside = `${path}.partial-old-${process.pid}`;
  if (
    await rename(path, aside).then(
      () => true,
      () => false,
    )
  )
    await rm(aside, { recursive: true, force: true });
}
