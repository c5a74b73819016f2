/** What the user asks for through the environment. Nothing else in this package reads it. */
import { homedir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../../errors.ts";
import { type TuneMode, tuneModes } from "../tunings.ts";

export interface Environment {
  /** `ROT_ADAPTER`: part of an adapter's name, or `hardware`, `software`, `embedded`. */
  readonly adapter: string | undefined;
  /** False when `ROT_NO_DOWNLOAD` is 1. */
  readonly download: boolean;
  /** `ROT_DEBUG`: 0 to 4. */
  readonly debug: number;
  /** `ROT_TUNE`: `off`, `cached` or `full`. */
  readonly tune: TuneMode;
  /** The folder for what is unpacked or fetched once: `render-of-thought` under `ROT_CACHE`, `XDG_CACHE_HOME` or `~/.cache`. */
  readonly cache: string;
  /** Where Vulkan drivers are announced: the files the user names, else the folders the loader looks into. */
  readonly drivers: DriverPlaces;
}

/** Where the manifests of Vulkan drivers lie. */
export interface DriverPlaces {
  /** The manifests that the user names: then only these count. */
  readonly files: readonly string[] | undefined;
  /** The folders that every Vulkan loader searches. */
  readonly folders: readonly string[];
  /** Folders where containers and NixOS put a GPU's driver without telling the loader. */
  readonly hidden: readonly string[];
}

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * Reads and checks the environment.
 *
 * @throws {UsageError} when a variable holds what it cannot mean
 */
export function readEnvironment(variables: Variables = process.env): Environment {
  const value = (name: string): string | undefined => variables[name]?.trim() || undefined;
  const home = value("HOME") ?? homedir();
  return {
    adapter: value("ROT_ADAPTER"),
    download: oneOf("ROT_NO_DOWNLOAD", value("ROT_NO_DOWNLOAD") ?? "0", ["0", "1"]) === 0,
    debug: oneOf("ROT_DEBUG", value("ROT_DEBUG") ?? "0", ["0", "1", "2", "3", "4"]),
    tune: tuneModes[oneOf("ROT_TUNE", value("ROT_TUNE") ?? "cached", tuneModes)] as TuneMode,
    cache: join(value("ROT_CACHE") ?? value("XDG_CACHE_HOME") ?? join(home, ".cache"), "render-of-thought"),
    drivers: {
      files: (value("VK_DRIVER_FILES") ?? value("VK_ICD_FILENAMES"))?.split(":"),
      folders: driverFolders(value, home),
      hidden: ["/run/opengl-driver/share/vulkan/icd.d", "/usr/local/nvidia/share/vulkan/icd.d"],
    },
  };
}

function oneOf(name: string, value: string, allowed: readonly string[]): number {
  const index = allowed.indexOf(value);
  if (index >= 0) return index;
  throw new UsageError(`${name} is "${value}"; it must be ${allowed.slice(0, -1).join(", ")} or ${allowed.at(-1)}`);
}

/** The loader's own search path. */
function driverFolders(value: (name: string) => string | undefined, home: string): string[] {
  const roots = [
    value("XDG_CONFIG_HOME") ?? join(home, ".config"),
    ...(value("XDG_CONFIG_DIRS") ?? "/etc/xdg").split(":"),
    "/etc",
    "/usr/local/etc",
    value("XDG_DATA_HOME") ?? join(home, ".local/share"),
    ...(value("XDG_DATA_DIRS") ?? "/usr/local/share:/usr/share").split(":"),
  ];
  return [...new Set(roots.map((root) => join(root, "vulkan/icd.d")))];
}
