/**
 * Targets on disk: a file for each, named by its key, written aside and renamed. Any number of processes may share a folder:
 * none sees half an entry, and whoever finds the folder too large removes what was not used for longest.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBf16, ShapeError, toBf16, UsageError } from "@rot/tensor";
import type { Targets, TargetStore } from "../targets.ts";

/** How a cache keeps targets. */
export interface TargetCacheOptions {
  /** Bytes of all entries together at most. */
  readonly limitBytes: number;
  /** What values are kept in: all of their bits, or half the space. `f32` by default. */
  readonly dtype?: "f32" | "bf16";
}

/** Targets on disk. */
export interface TargetCache extends TargetStore {
  /** What this process has found, not found, found damaged (and so not found), and removed for space. */
  readonly counts: Readonly<Record<"hits" | "misses" | "damaged" | "removed", number>>;
}

// An entry: magic, columns, rows (u32 each), SHA-256 of the key, columns, rows and values; then the values. Little-endian.
const MAGIC = Buffer.from("RoTv");
const HEADER = 44;
const ENTRY = /^([0-9a-f]{64})\.(?:f32|bf16)$/;
/** Room is made for more than the one entry that has none. */
const KEPT_SHARE = 0.9;
/** What a killed process left half-written is removed after this time. */
const ABANDONED_MILLISECONDS = 60 * 60 * 1000;

/**
 * Opens a cache, and makes its folder.
 *
 * @param folder  for this alone; in it are folders of two hexadecimal digits
 * @throws {UsageError} when the limit is not a positive number
 */
export async function targetCache(
  folder: string,
  { limitBytes, dtype = "f32" }: TargetCacheOptions,
): Promise<TargetCache> {
  if (!(limitBytes > 0)) throw new UsageError(`the limit of a target cache is ${limitBytes} bytes; it is above 0`);
  await mkdir(folder, { recursive: true });
  const counts = { hits: 0, misses: 0, damaged: 0, removed: 0 };
  const pathOf = (key: string): string => {
    if (!/^[0-9a-f]{64}$/.test(key)) throw new UsageError(`"${key.slice(0, 80)}" is no key of targets`);
    return join(folder, key.slice(0, 2), `${key}.${dtype}`);
  };
  /** Of all entries, as far as this process knows; others add to it unseen until the next look. */
  let bytes = sum((await look(folder)).map((entry) => entry.bytes));

  /** One removal at a time, however many entries are being put. */
  let removal: Promise<void> = Promise.resolve();
  const makeRoom = async (): Promise<void> => {
    if (bytes <= limitBytes) return;
    const entries = (await look(folder)).toSorted((a, b) => a.used - b.used);
    bytes = sum(entries.map((entry) => entry.bytes));
    if (bytes <= limitBytes) return;
    for (const entry of entries) {
      if (bytes <= limitBytes * KEPT_SHARE) break;
      await rm(entry.path, { force: true });
      bytes -= entry.bytes;
      counts.removed++;
    }
  };

  return {
    counts,
    async get(key) {
      const path = pathOf(key);
      const entry = await read(path, key, dtype);
      if (entry === "damaged") {
        counts.damaged++;
        await rm(path, { force: true });
      }
      if (typeof entry === "string") {
        counts.misses++;
        return undefined;
      }
      counts.hits++;
      const now = new Date();
      await utimes(path, now, now).catch(ignoreMissing); // another process may have removed it just now
      return entry;
    },
    async put(key, targets) {
      const path = pathOf(key);
      const { rows, columns, data } = targets;
      if (data.length !== rows * columns) {
        throw new ShapeError(`targets of ${rows} x ${columns} have ${data.length} values`);
      }
      const stored = dtype === "f32" ? data : Uint16Array.from(data, toBf16);
      const values = bytesOf(stored);
      const kept = dtype === "f32" ? targets : { rows, columns, data: Float32Array.from(stored, fromBf16) };
      const size = HEADER + values.length;
      if (size > limitBytes) return kept;
      await mkdir(join(folder, key.slice(0, 2)), { recursive: true });
      const aside = join(folder, key.slice(0, 2), `.${randomUUID()}.part`);
      try {
        // Not synced: an entry that a crash of the machine cuts short is found damaged, and made again.
        await writeFile(aside, [header(key, rows, columns, values), values]);
        await rename(aside, path);
      } catch (error) {
        await rm(aside, { force: true });
        throw error;
      }
      bytes += size;
      const room = removal.then(makeRoom);
      removal = room.catch(() => {}); // told to whoever waits for it, not to those that come after
      await room;
      return kept;
    },
  };
}

function header(key: string, rows: number, columns: number, values: Uint8Array): Buffer {
  const head = Buffer.alloc(HEADER);
  MAGIC.copy(head);
  head.writeUInt32LE(columns, 4);
  head.writeUInt32LE(rows, 8);
  createHash("sha256").update(key).update(head.subarray(0, 12)).update(values).digest().copy(head, 12);
  return head;
}

async function read(path: string, key: string, dtype: "f32" | "bf16"): Promise<Targets | "missing" | "damaged"> {
  let handle;
  try {
    handle = await open(path, "r");
  } catch (error) {
    ignoreMissing(error);
    return "missing";
  }
  try {
    const { size } = await handle.stat();
    const { buffer: head, bytesRead } = await handle.read(Buffer.alloc(HEADER), 0, HEADER, 0);
    const [columns, rows] = [head.readUInt32LE(4), head.readUInt32LE(8)];
    const bytes = rows * columns * (dtype === "f32" ? 4 : 2);
    if (bytesRead < HEADER || size !== HEADER + bytes) return "damaged"; // before anything of its size is allocated
    const values = new Uint8Array(bytes);
    for (let at = 0; at < bytes;) {
      const got = (await handle.read(values, at, bytes - at, HEADER + at)).bytesRead;
      if (got === 0) return "damaged";
      at += got;
    }
    if (!header(key, rows, columns, values).equals(head)) return "damaged";
    const data =
      dtype === "f32" ? new Float32Array(values.buffer) : Float32Array.from(new Uint16Array(values.buffer), fromBf16);
    return { rows, columns, data };
  } finally {
    await handle.close();
  }
}

interface Entry {
  readonly path: string;
  readonly bytes: number;
  /** When it was last read or written. */
  readonly used: number;
}

/** The entries of a folder. Removes what was abandoned half-written. */
async function look(folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const shelf of await readdir(folder)) {
    if (!/^[0-9a-f]{2}$/.test(shelf)) continue;
    for (const name of await readdir(join(folder, shelf))) {
      const path = join(folder, shelf, name);
      const found = await stat(path).catch(ignoreMissing);
      if (!found) continue;
      if (ENTRY.test(name)) entries.push({ path, bytes: found.size, used: found.mtimeMs });
      else if (name.endsWith(".part") && Date.now() - found.mtimeMs > ABANDONED_MILLISECONDS) {
        await rm(path, { force: true });
      }
    }
  }
  return entries;
}

function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  return undefined;
}

const bytesOf = (values: Float32Array | Uint16Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
