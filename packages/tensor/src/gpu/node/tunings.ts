/** The tuner's choices on disk: one JSON file an adapter, in the cache folder. */
import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import {
  type AdapterIdentity,
  hashOf,
  merged,
  parseTunings,
  printTunings,
  type Tuned,
  type TuningStore,
} from "../tunings.ts";
import { type Cache, shortened } from "./cache.ts";

/** Bytes of a file that is still believed. */
const MOST_BYTES = 2 ** 23;
/** Milliseconds after which a lock is one that a killed process left. */
const STALE_LOCK = 10_000;

/** The file of an adapter: readable, and told apart by a hash of all that identifies it. */
export function tuningsFile(adapter: AdapterIdentity): string {
  const { vendor, architecture, device, description } = adapter;
  const name = description || `${vendor} ${architecture}`;
  const slug = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "")
    .slice(0, 40);
  return `tunings-${slug || "unnamed"}-${hashOf(vendor, architecture, device, description)}.json`;
}

/** Choices in files of a cache. */
export function tuningStore(cache: Cache): TuningStore {
  const read = async (path: string, adapter: AdapterIdentity): Promise<readonly Tuned[]> => {
    const { size } = await stat(path);
    if (size > MOST_BYTES) throw new Error(`it is ${size} bytes large`);
    return parseTunings(await readFile(path, "utf8"), adapter);
  };
  return {
    async load(adapter, notice) {
      const path = await cache.file(tuningsFile(adapter));
      if (path === null) return null;
      try {
        return await read(path, adapter);
      } catch (error) {
        notice(`tuner: ${shortened(path)} is ignored: ${(error as Error).message}; rot-cli tune writes it anew`);
        return null;
      }
    },

    async save(adapter, choices, forget) {
      const path = join(await cache.writable(), tuningsFile(adapter));
      await locked(`${path}.lock`, async () => {
        const stored = await read(path, adapter).catch(() => []); // what cannot be read is replaced
        await replace(path, printTunings(adapter, merged(stored, choices, forget)));
      });
      return path;
    },
  };
}

/** Runs `f` while no other process does: what both read and add to must not be lost. */
async function locked(path: string, f: () => Promise<void>): Promise<void> {
  const isTaken = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "EEXIST";
  for (;;) {
    try {
      await (await open(path, "wx")).close();
      break;
    } catch (error) {
      if (!isTaken(error)) throw error;
      const status = await stat(path).catch(() => null);
      // One from the future is stale too: the clock was set back.
      if (status && Math.abs(Date.now() - status.mtimeMs) > STALE_LOCK) await rm(path, { force: true });
      else await setTimeout(5);
    }
  }
  await f().finally(() => rm(path, { force: true }));
}

async function replace(path: string, text: string): Promise<void> {
  const beside = `${path}.partial-${randomUUID()}`;
  const handle = await open(beside, "wx", 0o600);
  try {
    await handle
      .writeFile(text)
      .then(() => handle.sync())
      .finally(() => handle.close());
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
