/** Headless Chromium with WebGPU on SwiftShader, out of the npm package `@sparticuz/chromium`, unpacked once into the cache folder. */
import { execFile } from "node:child_process";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { createBrotliDecompress } from "node:zlib";
import { type Browser, chromium } from "playwright-core";
import { Cache } from "../../src/gpu/node/cache.ts";
import { openPackage, unpack } from "../../src/gpu/node/embedded.ts";
import { readEnvironment } from "../../src/gpu/node/environment.ts";

/** Chromium looks for these beside itself, and offers no WebGPU when one is missing. */
const GRAPHICS = ["libEGL.so", "libGLESv2.so", "libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"];

/** NSS and what it loads: a desktop has them, a server may not. */
const LIBRARIES = [
  "libexpat.so.1",
  "libfreebl3.chk",
  "libfreebl3.so",
  "libfreeblpriv3.chk",
  "libfreeblpriv3.so",
  "libnspr4.so",
  "libnss3.so",
  "libnssutil3.so",
  "libplc4.so",
  "libplds4.so",
  "libsoftokn3.chk",
  "libsoftokn3.so",
];

const FLAGS = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
];

export interface LaunchOptions {
  /** `package` uses the package's libraries even where the system has its own. */
  readonly libraries?: "system" | "package";
}

/**
 * Starts Chromium. Whoever calls it closes it.
 *
 * @throws {Error} when the package is not there or not for this machine, or Chromium does not start
 */
export async function launchChromium({ libraries = "system" }: LaunchOptions = {}): Promise<Browser> {
  const { path, version } = await openPackage();
  const cache = new Cache(readEnvironment().cache);
  const folder = await cache.entry(`chromium-${version}`, async (empty) => {
    await unpack(join(path, "bin/swiftshader.tar.br"), GRAPHICS, empty);
    const program = join(empty, "chromium");
    await pipeline(
      createReadStream(join(path, "bin/chromium.br")),
      createBrotliDecompress(),
      createWriteStream(program),
    );
    await chmod(program, 0o700);
  });
  const executable = join(folder, "chromium");
  const ownLibraries = async (): Promise<NodeJS.ProcessEnv> => {
    const own = await cache.entry(`chromium-libraries-${version}`, (empty) =>
      unpack(join(path, "bin/al2023.tar.br"), LIBRARIES, empty, "lib"),
    );
    return { ...process.env, LD_LIBRARY_PATH: [own, process.env["LD_LIBRARY_PATH"]].filter(Boolean).join(":") };
  };
  const suits = libraries === "system" && (await starts(executable));
  // Root may not use the sandbox, and what is loaded here is this repository's own.
  return chromium.launch({
    executablePath: executable,
    args: FLAGS,
    chromiumSandbox: false,
    env: definite(suits ? process.env : await ownLibraries()),
  });
}

/** Whether the system has every library that the program needs. */
function starts(program: string): Promise<boolean> {
  return promisify(execFile)(program, ["--version"]).then(
    () => true,
    () => false,
  );
}

function definite(variables: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
