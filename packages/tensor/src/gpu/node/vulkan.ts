/** The Vulkan loader and its drivers on Linux. A process holds one loader; the environment says which drivers it sees. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { findKoffi, requireKoffi, withVariables } from "./native.ts";

const SONAME = "libvulkan.so.1";

/** Kept, because a library whose handle is collected is unloaded. */
const loaded = new Map<string, unknown>();

/** Whether the system has a Vulkan loader, or this process has loaded one already. */
export async function hasLoader(): Promise<boolean> {
  const koffi = await findKoffi();
  // Then Dawn looks for itself, and complains on stderr if there is none.
  if (!koffi || loaded.has(SONAME)) return true;
  try {
    loaded.set(SONAME, koffi.load(SONAME));
    return true;
  } catch {
    return false;
  }
}

/**
 * Makes sure that this process has a Vulkan loader: the system's, or the one at `path`.
 * Dawn asks for it by its soname, which is answered by whatever is loaded under that name.
 */
export async function ensureLoader(path: string): Promise<void> {
  await requireKoffi();
  if (await hasLoader()) return;
  await loadLibraries([path]);
  loaded.set(SONAME, loaded.get(path));
}

/** Loads libraries into this process for good, in the order given: each finds those before it by their sonames. */
export async function loadLibraries(paths: readonly string[]): Promise<void> {
  const koffi = await requireKoffi();
  for (const path of paths.filter((each) => !loaded.has(each))) {
    loaded.set(path, koffi.load(path));
  }
}

/** Runs `action` while the loader sees only these drivers; it reads the environment when Dawn makes its Vulkan instance. */
export function withDrivers<T>(manifests: readonly string[], action: () => Promise<T>): Promise<T> {
  const list = manifests.join(":");
  const variables = {
    VK_DRIVER_FILES: list,
    // The older name of the same, which is all that an old loader knows.
    VK_ICD_FILENAMES: list,
    VK_ADD_DRIVER_FILES: undefined,
    VK_LOADER_DRIVERS_SELECT: undefined,
    VK_LOADER_DRIVERS_DISABLE: undefined,
  };
  return withVariables(variables, action);
}

/** The driver manifests in some folders. */
export async function driverManifests(folders: readonly string[]): Promise<string[]> {
  const names = await Promise.all(
    folders.map(async (folder) => (await readdir(folder).catch(() => [])).map((name) => join(folder, name))),
  );
  return names.flat().filter((name) => name.endsWith(".json"));
}
