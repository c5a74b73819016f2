/** Lets peers find the Vulkan that this process has found, so that all compute on one adapter. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const LOADER = "libvulkan.so.1";

/**
 * The variables for a peer. Where Vulkan is the system's own there are none: peers find it as we do.
 *
 * On Linux alone a loader or driver may come from a folder of ours; what this process has loaded says from which.
 */
export function vulkanEnvironment(libraries: readonly string[] = loadedLibraries()): Record<string, string> {
  const folders = [...new Set(libraries.map((path) => dirname(path)))].filter((folder) => !isSystem(folder));
  const manifests = folders.flatMap((folder) => {
    const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
    return files.map((name) => join(folder, name)).filter((file) => libraries.some((path) => describes(file, path)));
  });
  const loader = libraries.find((path) => basename(path) === LOADER && !isSystem(dirname(path)));
  return {
    ...(manifests.length > 0 && { VK_DRIVER_FILES: manifests.join(":"), VK_ICD_FILENAMES: manifests.join(":") }),
    ...(loader !== undefined && { LD_LIBRARY_PATH: dirname(loader) }),
  };
}

const isSystem = (folder: string): boolean => /^\/(usr\/)?lib/.test(folder);

/** Whether a file is the manifest of a driver. */
function describes(file: string, driver: string): boolean {
  try {
    const { ICD } = JSON.parse(readFileSync(file, "utf8")) as { ICD?: { library_path?: unknown } };
    return typeof ICD?.library_path === "string" && basename(ICD.library_path) === basename(driver);
  } catch {
    return false; // some other file
  }
}

/** The shared libraries of this process; on other systems than Linux nobody can tell. */
function loadedLibraries(): string[] {
  if (process.platform !== "linux") return [];
  const lines = readFileSync("/proc/self/maps", "utf8").split("\n");
  const paths = lines.map((line) => /\s(\/.*\.so[.\d]*)$/.exec(line)?.[1]);
  return [...new Set(paths.filter((path) => path !== undefined))];
}
