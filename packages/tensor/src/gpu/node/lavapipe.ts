/** Lavapipe fetched aside: seven to ten times faster than the embedded adapter, and as little to install. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { DeviceError } from "../../errors.ts";
import { PrivateApt, type Release, systemRelease } from "./apt.ts";
import { type Cache, shortened } from "./cache.ts";
import { listAdapters } from "./dawn.ts";
import { requireKoffi } from "./native.ts";
import { firstLine } from "./optional.ts";
import type { Candidate, Source } from "./source.ts";
import { ensureLoader, loadLibraries, withDrivers } from "./vulkan.ts";

const LONGEST_SECONDS = 60;
const RETRY_MINUTES = 60;
const LOADER = "libvulkan.so.1";

/**
 * Fetched lavapipe as a place to look for an adapter.
 *
 * @param refusal  why it must not be fetched, or undefined when it may
 */
export function fetchedSource(cache: Cache, refusal: string | undefined, notice: (line: string) => void): Source {
  return {
    place: "fetching lavapipe",
    mayHave: (part) => "llvmpipe (llvm".includes(part) || part.startsWith("llvmpipe"),
    async look(insist) {
      const release = await systemRelease();
      await requireKoffi();
      const [folder] = await cache.find(prefix(release));
      if (folder !== undefined) return open(folder);
      if (refusal !== undefined) throw new DeviceError(refusal);
      return open(await fetchOnce(cache, release, insist, notice));
    },
  };
}

/** A failure is remembered for an hour: a machine without a network should not wait at every start. */
async function fetchOnce(
  cache: Cache,
  release: Release,
  insist: boolean,
  notice: (line: string) => void,
): Promise<string> {
  const memory = join(await cache.writable(), "lavapipe-failed.json");
  const failed = await readFailure(memory);
  const minutes = failed ? Math.floor((Date.now() - failed.at) / 60_000) : RETRY_MINUTES;
  if (failed && !insist && minutes >= 0 && minutes < RETRY_MINUTES) {
    throw new DeviceError(`failed ${minutes} minutes ago (${failed.reason}), next try in ${RETRY_MINUTES - minutes}`);
  }
  try {
    const folder = await fetchLavapipe(cache, release, notice);
    await rm(memory, { force: true });
    return folder;
  } catch (error) {
    await writeFile(memory, JSON.stringify({ at: Date.now(), reason: firstLine(error) }));
    throw error;
  }
}

async function fetchLavapipe(cache: Cache, release: Release, notice: (line: string) => void): Promise<string> {
  const folder = await cache.writable();
  notice(`adapter: fetching lavapipe into ${shortened(folder)}, once, about 60 MB (ROT_NO_DOWNLOAD=1 refuses)`);
  const work = await mkdtemp(join(folder, "apt.partial-"));
  const signal = AbortSignal.timeout(LONGEST_SECONDS * 1000);
  try {
    const apt = new PrivateApt(work, release, signal);
    const closure = await apt.resolve();
    const key = createHash("sha256").update(closure.packages.join(" ")).digest("hex").slice(0, 8);
    return await cache.entry(`${prefix(release)}${closure.version}-${key}`, (target) => apt.fetch(closure, target));
  } catch (error) {
    if (signal.aborted) throw new DeviceError(`it took more than ${LONGEST_SECONDS} seconds`, { cause: error });
    throw error;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function open(folder: string): Promise<Candidate[]> {
  const { libraries } = JSON.parse(await readFile(join(folder, "order.json"), "utf8")) as { libraries: string[] };
  await loadLibraries(libraries.filter((name) => name !== LOADER).map((name) => join(folder, name)));
  await ensureLoader(join(folder, LOADER));
  const candidates = await listAdapters((action) => withDrivers([join(folder, "lavapipe.json")], action));
  return candidates.map((candidate) => ({ ...candidate, origin: `fetched into ${shortened(folder)}` }));
}

function prefix({ id, codename, architecture }: Release): string {
  return `lavapipe-${id}-${codename}-${architecture}-`;
}

async function readFailure(path: string): Promise<{ at: number; reason: string } | undefined> {
  try {
    const { at, reason } = JSON.parse(await readFile(path, "utf8")) as { at: unknown; reason: unknown };
    return typeof at === "number" && typeof reason === "string" ? { at, reason } : undefined;
  } catch {
    return undefined;
  }
}
