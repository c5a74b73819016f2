import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { PNG } from "pngjs";
import { afterAll, expect, test } from "vitest";

const examples = resolve(import.meta.dirname, "../examples");
const folder = mkdtempSync(join(tmpdir(), "rot-examples-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs an example as the README says, and gives what it printed. */
async function run(name: string, ...args: string[]): Promise<string> {
  const child = spawn(
    process.execPath,
    ["--conditions=@rot/source", "--import", "tsx", join(examples, name), ...args],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let printed = "";
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  const status = await new Promise<number | null>((done) => void child.on("close", done));
  expect(status, printed).toBe(0);
  return printed;
}

test("fit-a-line finds the line", async () => {
  expect(await run("fit-a-line.ts")).toBe("y = 2.00 x + 1.00\n");
});

test("your-own-kernel prints softplus and its slope", async () => {
  const printed = await run("your-own-kernel.ts");
  const [values, slopes] = printed
    .split("\n")
    .map((line) => line.replaceAll(/[[\]]/g, "").trim().split(/\s+/).map(Number));
  for (const [i, x] of [-2, -1, 0, 1, 2].entries()) {
    expect(values?.[i]).toBeCloseTo(Math.log(1 + Math.exp(x)), 5);
    expect(slopes?.[i]).toBeCloseTo(1 / (1 + Math.exp(-x)), 5);
  }
});

test("spiral separates the arms and draws all three regions", { timeout: 120_000 }, async () => {
  const path = join(folder, "spiral.png");
  const printed = await run("spiral.ts", path);
  expect(Number(/accuracy ([\d.]+) %/.exec(printed)?.[1])).toBeGreaterThan(95);
  const { data, width, height } = PNG.sync.read(readFileSync(path));
  const colours = new Map<string, number>();
  for (let i = 0; i < data.length; i += 4) {
    const colour = data.subarray(i, i + 3).join();
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  const regions = [...colours.values()].filter((count) => count > 0.15 * width * height);
  expect(regions).toHaveLength(3);
});

test("character-transformer learns", { timeout: 600_000 }, async () => {
  const printed = await run("character-transformer.ts");
  const losses = [...printed.matchAll(/: ([\d.]+) nats/g)].map(([, loss]) => Number(loss));
  expect(losses[0]).toBeGreaterThan(3.5);
  expect(losses.at(-1)).toBeLessThan(0.7);
  expect(printed).toMatch(/Shall I compare .*summer/);
});
