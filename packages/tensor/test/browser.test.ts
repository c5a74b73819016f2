/** `@rot/tensor` as a browser loads it, without a bundler: the example page in headless Chromium, on real WebGPU. */
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { launchChromium } from "./tools/chromium.ts";
import { compilePackage, pageFolder, type Resource, servePage } from "./tools/site.ts";

let dist: Resource;
let site: Resource;

beforeAll(async () => {
  dist = await compilePackage();
  site = await servePage(dist.at);
});

afterAll(async () => {
  await site?.end();
  await dist?.end();
});

describe("without a bundler", () => {
  test("what the page loads imports nothing of Node, and the import map knows every bare name and no other", async () => {
    const html = await readFile(join(pageFolder, "index.html"), "utf8");
    const map = /<script type="importmap">(.*?)<\/script>/s.exec(html)?.[1] ?? "";
    const { imports: names } = JSON.parse(map) as { imports: Record<string, string> };
    const script = /<script type="module" src="([^"]+)">/.exec(html)?.[1] ?? "";
    const seen = new Set([new URL(script, site.at).href]);
    const used = new Set<string>();
    for (const url of seen) {
      const response = await fetch(url);
      expect(response.status, url).toBe(200);
      for (const name of importsOf(await response.text())) {
        expect(name, url).not.toMatch(/^node:/);
        if (!name.startsWith(".")) {
          expect(Object.keys(names), url).toContain(name);
          used.add(name);
        }
        seen.add(new URL(names[name] ?? name, name in names ? site.at : url).href);
      }
    }
    expect([...used].toSorted()).toEqual(Object.keys(names).toSorted());
    expect(seen.size).toBeGreaterThan(40);
  });

  test("the page's server gives what the page needs, and no other file", async () => {
    const found = await Promise.all(
      ["/", "/page.js", "/style.css", "/node_modules/@rot/tensor/dist/index.js?x#y"].map((path) => ask(path)),
    );
    expect(found.map(({ status, type }) => `${status} ${type}`)).toEqual([
      "200 text/html; charset=utf-8",
      "200 text/javascript; charset=utf-8",
      "200 text/css; charset=utf-8",
      "200 text/javascript; charset=utf-8",
    ]);
    const outside = [
      "/../node/fit-a-line.js",
      "/../../dist/index.js",
      "/..%2f..%2fdist/index.js",
      "/%2e%2e/%2e%2e/dist/index.js",
      "/node_modules/@rot/tensor/dist/../../../../../packages/tensor/dist/index.js",
      "/node_modules/wgsl-preprocessor/..%2fwebgpu%2findex.js",
      "/node_modules/webgpu/index.js",
      `/${join(pageFolder, "page.js")}`,
      "//etc/passwd",
      "/..\\..\\dist\\index.js",
      "/page.js%00.js",
      "/tsconfig.json",
      "/missing.js",
      "/%ff",
      "/%",
      "/..",
      "/.",
      "*",
    ];
    for (const path of outside) expect((await ask(path)).status, path).toBeGreaterThanOrEqual(400);
    expect((await ask("/page.js", "POST")).status).toBe(405);
    expect((await ask("/page.js")).status).toBe(200);
  });
});

describe("in Chromium", () => {
  let browser: Browser;
  let lack: string | undefined;

  beforeAll(async () => {
    try {
      browser = await launchChromium();
    } catch (error) {
      const here = `${process.platform}-${process.arch}`;
      if (process.env["CI"] && here === "linux-x64") throw error;
      lack = error instanceof Error ? error.message : String(error);
      process.stderr.write(`no tests in Chromium on this machine (${here}): ${lack}\n`);
    }
  });

  beforeEach(({ skip }) => skip(lack !== undefined, lack));

  afterAll(() => browser?.close());

  test(
    "both examples learn on its WebGPU and are drawn as they do, without a word in the console",
    () =>
      visit(browser, async (page, heard) => {
        // Every picture of the boundary goes through here.
        await page.addInitScript(`{
        const { prototype } = OffscreenCanvasRenderingContext2D;
        const { putImageData } = prototype;
        globalThis.pictures = 0;
        prototype.putImageData = function (...values) { pictures++; putImageData.apply(this, values); };
      }`);
        await page.goto(site.at);

        await finished(page, "#line");
        expect(await page.locator("#adapter").textContent()).toBe("adapter: google swiftshader, software");
        const line = await values(page, "#line");
        expect(line["loss"]).toBeLessThan(0.02);
        expect(line["slope"]).toBeCloseTo(0.7, 1);
        expect(line["offset"]).toBeCloseTo(-0.2, 1);
        const drawn = await colours(page, "#line");
        expect(drawn.orange).toBeGreaterThan(0.002);
        expect(drawn.blue).toBeGreaterThan(0.002);

        await finished(page, "#spiral");
        const spiral = await values(page, "#spiral");
        expect(spiral["loss"]).toBeLessThan(0.1);
        expect(spiral["right"]).toBeGreaterThanOrEqual(98);
        expect(await page.evaluate("pictures")).toBeGreaterThanOrEqual(10);
        // The points alone cover a twentieth of the picture.
        const boundary = await colours(page, "#spiral");
        expect(boundary.blue).toBeGreaterThan(0.2);
        expect(boundary.orange).toBeGreaterThan(0.2);

        await page.locator("#line button").click();
        await finished(page, "#line");
        expect(await values(page, "#line")).toEqual(line);
        await page.locator("#spiral summary").click();
        await page.locator("#spiral pre", { hasText: "function* learnSpiral" }).waitFor();
        expect(heard).toEqual([]);
      }),
    90_000,
  );

  test("tensors print, compute and complain there as in Node", () =>
    visit(browser, async (page) => {
      await page.goto(site.at);
      // A string: what it imports is the page's, not this file's.
      const said = await page.evaluate(`(async () => {
        const { DeviceLostError, openDevice, ShapeError, tensor } = await import("@rot/tensor");
        const device = await openDevice({ notice() {} });
        const x = tensor(device, [[1, 2, 3], [4, 5, 6]]);
        const y = x.mul(2).add(tensor(device, [0.5, 0, -0.5]));
        const unread = \`\${y}\`;
        await y.read();
        const refused = (() => { try { x.add(tensor(device, [1, 2])); } catch (error) { return error; } })();
        const rejected = y.add(1).read().catch((error) => error);
        device.destroy();
        return {
          unread,
          read: \`\${y}\`,
          refused: refused instanceof ShapeError && refused.message,
          lost: (await rejected) instanceof DeviceLostError,
        };
      })()`);
      expect(said).toEqual({
        unread: "tensor [2, 3] f32 (on the device; await x.text() shows its values)",
        read: "[[ 2.5  4.   5.5]\n [ 8.5 10.  11.5]]",
        refused: expect.stringMatching(/^add: .*\[2, 3\].*\[2\]/),
        lost: true,
      });
    }));

  test("a browser without WebGPU is told so on the page", () =>
    visit(browser, async (page) => {
      await page.addInitScript(`Object.defineProperty(Navigator.prototype, "gpu", { value: undefined })`);
      await page.goto(site.at);
      await page.locator("#adapter.error").waitFor();
      expect(await page.locator("#adapter").textContent()).toBe("no WebGPU: this browser has no navigator.gpu");
    }));

  test("the libraries of Chromium's package stand in where the system has none", async () => {
    const other = await launchChromium({ libraries: "package" });
    try {
      await visit(other, async (page) => {
        await page.goto(site.at);
        await page.locator("#adapter", { hasText: "swiftshader" }).waitFor();
      });
    } finally {
      await other.close();
    }
  });
});

/** The names that a compiled file imports, statically or not. */
function importsOf(source: string): string[] {
  const code = source.replaceAll(/^\s*(\/\/|\/?\*).*$/gm, "");
  const statements = code.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"']+)["']/g);
  return [...statements].map(([, name]) => name as string);
}

/** Asks the server for exactly this path, which `fetch` would tidy up first. */
function ask(path: string, method = "GET"): Promise<{ status: number; type: string | undefined }> {
  const { hostname, port } = new URL(site.at);
  return new Promise((done, fail) => {
    const sent = request({ hostname, port, path, method }, (response) => {
      response.resume();
      response.once("end", () => done({ status: response.statusCode ?? 0, type: response.headers["content-type"] }));
    });
    sent.once("error", fail);
    sent.end();
  });
}

/** Opens an empty page for `stay`, and hears what it says in the console, throws, or fails to load. */
async function visit(browser: Browser, stay: (page: Page, heard: readonly string[]) => Promise<void>): Promise<void> {
  const page = await browser.newPage();
  page.setDefaultTimeout(40_000);
  const heard: string[] = [];
  page.on("console", (message) => heard.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => heard.push(`thrown: ${error.message}`));
  page.on("requestfailed", (failed) => heard.push(`failed: ${failed.url()}`));
  page.on("response", (response) => {
    if (!response.ok()) heard.push(`${response.status()}: ${response.url()}`);
  });
  try {
    await stay(page, heard);
  } catch (error) {
    throw heard.length > 0 ? new Error(`the page said: ${heard.join("; ")}`, { cause: error }) : error;
  } finally {
    await page.close();
  }
}

/** Waits until an example has run to its end. */
async function finished(page: Page, section: string): Promise<void> {
  await page.locator(`${section}:is([data-state=done], [data-state=failed])`).waitFor();
  expect(await page.locator(`${section} .error`).textContent()).toBe("");
  expect(await page.locator(section).getAttribute("data-state")).toBe("done");
}

/** The numbers under an example's picture. */
async function values(page: Page, section: string): Promise<Record<string, number>> {
  const shown = await page.locator(`${section} [data-value]`).all();
  const entries = shown.map(async (each) => [
    await each.getAttribute("data-value"),
    Number.parseFloat((await each.textContent()) ?? ""),
  ]);
  return Object.fromEntries(await Promise.all(entries)) as Record<string, number>;
}

/** Which part of an example's picture is clearly blue, and which orange. */
function colours(page: Page, section: string): Promise<{ blue: number; orange: number }> {
  return page.evaluate(`(() => {
    const canvas = document.querySelector("${section} canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let [blue, orange] = [0, 0];
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] === 0) continue;
      if (data[i + 2] - data[i] > 60) blue++;
      if (data[i] - data[i + 2] > 60) orange++;
    }
    return { blue: (4 * blue) / data.length, orange: (4 * orange) / data.length };
  })()`);
}
