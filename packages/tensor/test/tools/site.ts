/** The example page as a user sees it: the package freshly compiled, and the page's own server in front of it. */
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

/** The package's folder. */
export const packageFolder = resolve(import.meta.dirname, "../..");

/** The page's folder. */
export const pageFolder = join(packageFolder, "examples/browser");

/** What a test gives back when it is done. */
export interface Resource {
  /** A folder or an address. */
  readonly at: string;
  end(): Promise<void>;
}

/**
 * Compiles the package into a folder of its own, with the settings of its tsconfig. Not into `dist`: another process may
 * read or write there. Types are left to `npm run check`.
 */
export async function compilePackage(): Promise<Resource> {
  const folder = await mkdtemp(join(tmpdir(), "rot-tensor-dist-"));
  const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
  const off = ["composite", "declaration", "declarationMap"].flatMap((option) => [`--${option}`, "false"]);
  const out = ["--outDir", folder, "--incremental", "--tsBuildInfoFile", join(folder, ".tsbuildinfo")];
  await promisify(execFile)(process.execPath, [compiler, "-p", packageFolder, "--noCheck", ...off, ...out]);
  return { at: folder, end: () => rm(folder, { recursive: true, force: true }) };
}

/** Starts the page's server by its command line, on a free port. */
export async function servePage(dist: string): Promise<Resource> {
  const server = spawn(process.execPath, [join(pageFolder, "serve.js"), "--port", "0", "--dist", dist], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<void>((done) => server.once("exit", () => done()));
  for await (const line of createInterface(server.stdout)) {
    const url = /^http:\/\/127\.0\.0\.1:\d+\//.exec(line)?.[0];
    if (url === undefined) break;
    return {
      at: url,
      async end() {
        server.kill();
        await ended;
      },
    };
  }
  server.kill();
  throw new Error("serve.js printed no address");
}
