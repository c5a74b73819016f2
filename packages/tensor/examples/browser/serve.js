#!/usr/bin/env node
// @ts-check
/**
 * Serves the page on this machine alone: `node packages/tensor/examples/browser/serve.js [--port 8080]`.
 *
 * WebGPU needs a secure context, which a page opened as a file is not, and one from localhost is.
 */
import { createReadStream, existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, extname, join, normalize, resolve, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const { values: flags } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    /** The compiled package, where it is not in its usual place. */
    dist: { type: "string", default: join(here, "../../dist") },
  },
});

if (!existsSync(join(flags.dist, "index.js"))) {
  console.error(`${resolve(flags.dist)} has no index.js: compile the package first, by "npm run build"`);
  process.exit(2);
}

/** What can be asked for, and where it lies. The first that fits counts; nothing outside these folders is served. */
const folders = [
  { path: "/node_modules/@rot/tensor/dist/", folder: resolve(flags.dist) },
  {
    path: "/node_modules/wgsl-preprocessor/",
    folder: dirname(createRequire(import.meta.url).resolve("wgsl-preprocessor/wgsl-preprocessor.js")),
  },
  { path: "/", folder: here },
];

/** @type {Record<string, string>} */
const types = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".map": "application/json",
};

const server = createServer(async (request, response) => {
  try {
    const file = await find(request.url ?? "/");
    if (request.method !== "GET" || file === undefined) {
      response.writeHead(request.method === "GET" ? 404 : 405).end();
      return;
    }
    response.writeHead(200, { "content-type": types[extname(file)], "cache-control": "no-store" });
    await pipeline(createReadStream(file), response);
  } catch {
    response.destroy(); // the browser has gone, or the file has
  }
});

/**
 * The file that an address means.
 *
 * @param {string} address
 */
async function find(address) {
  const path = decode(address.split(/[?#]/, 1)[0] ?? "");
  const place = folders.find((each) => path?.startsWith(each.path));
  if (path === undefined || place === undefined) return undefined;
  const file = normalize(join(place.folder, path === "/" ? "index.html" : path.slice(place.path.length)));
  if (!file.startsWith(place.folder + sep) || types[extname(file)] === undefined) return undefined;
  const status = await stat(file).catch(() => undefined);
  return status?.isFile() ? file : undefined;
}

/** @param {string} path */
function decode(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

server.on("error", (error) => {
  console.error(`cannot serve on port ${flags.port}: ${error.message}`);
  process.exit(1);
});
server.listen(Number(flags.port), "127.0.0.1", () => {
  const address = server.address();
  const port = typeof address === "object" ? address?.port : flags.port;
  console.log(`http://127.0.0.1:${port}/ (Ctrl+C stops it)`);
});
