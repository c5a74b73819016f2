import { spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import type { AdapterIdentity, Tuned } from "../tunings.ts";
import { Cache } from "./cache.ts";
import { tuningsFile, tuningStore } from "./tunings.ts";

const root = mkdtempSync(join(tmpdir(), "rot-tunings-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = root;
beforeEach(() => (folder = mkdtempSync(join(root, "case-"))));

const adapter: AdapterIdentity = { vendor: "a", architecture: "b", device: "c", description: "../Evil: Adapter 1.0" };
const choice = (kernel: string, lanes = 8): Tuned => ({
  kernel,
  source: "ab",
  problem: "f32 3 ",
  setting: { lanes },
  ratio: 0.5,
});
const store = () => tuningStore(new Cache(join(folder, "cache"), join(folder, "fallback")));

/** What is loaded, and the warnings. */
async function load(of = adapter) {
  const lines: string[] = [];
  return { choices: await store().load(of, (line) => lines.push(line)), lines };
}

test("choices are loaded as they were saved, by this adapter and driver alone", async () => {
  expect(await load()).toEqual({ choices: null, lines: [] });
  expect(existsSync(join(folder, "cache"))).toBe(false);
  const path = await store().save(adapter, [choice("x")]);
  expect(path).toBe(join(folder, "cache", tuningsFile(adapter)));
  await store().save(adapter, [choice("y"), choice("x", 4)]);
  expect(await load()).toEqual({ choices: [choice("x", 4), choice("y")], lines: [] });
  expect(await load({ ...adapter, description: "../Evil: Adapter 1.1" })).toEqual({ choices: null, lines: [] });
  expect(readdirSync(join(folder, "cache"))).toEqual([tuningsFile(adapter)]);
});

test("an adapter's name makes a plain file name", () => {
  expect(tuningsFile(adapter)).toMatch(/^tunings-evil-adapter-1-0-[0-9a-f]{16}\.json$/);
  const unnamed = { vendor: "", architecture: "", device: "", description: "" };
  expect(tuningsFile(unnamed)).toMatch(/^tunings-unnamed-[0-9a-f]{16}\.json$/);
});

test("a damaged file is named in a warning and ignored, and the next save replaces it", async () => {
  const path = await store().save(adapter, [choice("x")]);
  const whole = readFileSync(path, "utf8");
  for (const text of [whole.slice(0, -9), "{}", whole.replace('"a"', '"z"'), ""]) {
    writeFileSync(path, text);
    const { choices, lines } = await load();
    expect(choices).toBeNull();
    expect(lines).toEqual([
      expect.stringMatching(/^tuner: .*tunings-evil.* is ignored: .+; rot-cli tune writes it anew$/),
    ]);
  }
  for (const time of [0, Date.now()]) {
    writeFileSync(`${path}.lock`, "");
    utimesSync(`${path}.lock`, time, time); // of a process that was killed, perhaps before the clock was set back
    await store().save(adapter, [choice("z")]);
  }
  truncateSync(path, 2 ** 23 + 1);
  expect((await load()).lines[0]).toContain("8388609 bytes");
  await store().save(adapter, [choice("y")]);
  expect(await load()).toEqual({ choices: [choice("y")], lines: [] });
});

test("what two processes save at once is all there, and the file is whole at every moment", async () => {
  const program = `
    import { Cache } from ${JSON.stringify(join(import.meta.dirname, "cache.ts"))};
    import { tuningStore } from ${JSON.stringify(join(import.meta.dirname, "tunings.ts"))};
    const [name, folder] = process.argv.slice(-2);
    const store = tuningStore(new Cache(folder));
    for (let i = 0; i < 10; i++) {
      const choice = { kernel: name + i, source: "ab", problem: "", setting: { lanes: i }, ratio: 1 };
      await store.save(${JSON.stringify(adapter)}, [choice]);
    }`;
  const file = join(folder, "save.mts");
  writeFileSync(file, program);
  const cache = join(folder, "cache");
  const run = (name: string): Promise<number | null> =>
    new Promise((resolve, reject) => {
      const args = ["--conditions=@rot/source", "--import", import.meta.resolve("tsx"), file, name, cache];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
      child.on("error", reject);
      child.on("exit", resolve);
    });
  let running = true;
  const lines: string[] = [];
  const watch = (async () => {
    while (running) {
      await store().load(adapter, (line) => lines.push(line));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  expect(await Promise.all([run("a"), run("b")])).toEqual([0, 0]);
  running = false;
  await watch;
  expect(lines).toEqual([]);
  const names = (await load()).choices?.map(({ kernel }) => kernel).toSorted();
  expect(names).toEqual(["a", "b"].flatMap((name) => Array.from({ length: 10 }, (_, i) => name + i)));
});
