/** The tuner's choices on disk: one JSON file an adapter, in the cache folder. */
import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
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
/** Processes that write at once read back and add again what the other's file lacks. */
const ATTEMPTS = 8;

/** The file of an adapter: readable, and told apart by a hash of all that identifies it. */
export function tuningsFile(adapter: AdapterIdentity): string {
  const name = adapter.description || [adapter.vendor, adapter.architecture].join(" ");
  const slug = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "")
    .slice(0, 40);
  return `tunings-${slug || "unnamed"}-${hashOf(JSON.stringify(Object.entries(adapter).toSorted()))}.json`;
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
      // What cannot be read is replaced.
      const stored = (): Promise<readonly Tuned[]> => read(path, adapter).catch(() => []);
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const all = merged(await stored(), choices, forget);
        await replace(path, printTunings(adapter, all));
        const there = new Set((await stored()).map((one) => JSON.stringify(one)));
        if (choices.every((one) => there.has(JSON.stringify(one)))) break;
      }
      return path;
    },
  };
}

async function replace(path: string, text: string): Promise<void> {
  const beside = `${path}.partial-${randomUUID()}`;
  const handle = await open(beside, "wx", 0o600);
  try {
    await handle.writeFile(text).finally(() => handle.close());
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
