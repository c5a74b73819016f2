/** SwiftShader out of the npm package `@sparticuz/chromium`: an adapter on a machine that has no Vulkan at all. */
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { DeviceError } from "../../errors.ts";
import type { Cache } from "./cache.ts";
import { listAdapters } from "./dawn.ts";
import type { Source } from "./source.ts";
import { readTar } from "./tar.ts";
import { ensureLoader, withDrivers } from "./vulkan.ts";

const PACKAGE = "@sparticuz/chromium";
const SWIFTSHADER = "bin/swiftshader.tar.br";
const LOADER = "libvulkan.so.1";
const DRIVER = "vk_swiftshader_icd.json";
const FILES = [LOADER, "libvk_swiftshader.so", DRIVER];
const MOST_BYTES = 256 * 1024 * 1024;

/** The embedded adapter as a place to look for one. */
export function embeddedSource(cache: Cache): Source {
  return {
    place: "embedded",
    mayHave: (part) => "swiftshader device (subzero)".includes(part),
    async look() {
      const folder = await unpackEmbedded(cache);
      await ensureLoader(join(folder, LOADER));
      const candidates = await listAdapters((action) => withDrivers([join(folder, DRIVER)], action));
      return candidates.map((candidate) => ({ ...candidate, kind: "embedded", origin: `out of ${PACKAGE}` }));
    },
  };
}

/** The embedded Vulkan loader, for a machine that has a driver and no loader. */
export async function embeddedLoader(cache: Cache): Promise<string> {
  return join(await unpackEmbedded(cache), LOADER);
}

/**
 * Unpacks SwiftShader once.
 *
 * @returns the folder that holds the loader, the driver and its manifest, which names the driver by a relative path
 * @throws {DeviceError} when the package is not there or not for this machine
 */
export async function unpackEmbedded(cache: Cache, root: string | undefined = packageRoot()): Promise<string> {
  const { path, version } = await openPackage(root);
  return cache.entry(`swiftshader-${version}`, (folder) => unpack(join(path, SWIFTSHADER), FILES, folder));
}

/**
 * Where the package lies, and its version.
 *
 * @throws {DeviceError} when it is not there or not for this machine
 */
export async function openPackage(root = packageRoot()): Promise<{ path: string; version: string }> {
  const machine = `${process.platform}-${process.arch}`;
  if (machine !== "linux-x64") throw new DeviceError(`SwiftShader is packed for linux-x64 only, not ${machine}`);
  if (root === undefined) throw new DeviceError(`the npm package ${PACKAGE} is not installed`);
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
  return { path: root, version };
}

/** Writes the named files of one of the package's archives into `folder`; `inside` is their folder in the archive. */
export async function unpack(
  archive: string,
  names: readonly string[],
  folder: string,
  inside?: string,
): Promise<void> {
  const packed = await readFile(archive);
  const files = readTar(brotliDecompressSync(packed, { maxOutputLength: MOST_BYTES }), names, inside);
  for (const [name, bytes] of files) await writeFile(join(folder, name), bytes, { mode: 0o600 });
}

/** The package's `exports` hide its files and differ between versions, so the folders that Node searches are searched here. */
function packageRoot(): string | undefined {
  const folders = createRequire(import.meta.url).resolve.paths(PACKAGE) ?? [];
  return folders.map((folder) => join(folder, PACKAGE)).find((root) => existsSync(join(root, SWIFTSHADER)));
}
