import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice, tensor } from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import type { Problem } from "@rot/kernels/tuner";
import { Command } from "commander";
import { afterAll, expect, test, vi } from "vitest";
import { exitCodeOf } from "../exit-codes.ts";
import { tune } from "./tune.ts";

const root = mkdtempSync(join(tmpdir(), "rot-tune-"));
vi.stubEnv("ROT_CACHE", root);
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

/** A kernel whose usual setting is wrong: the two others agree. */
const oddKernel = (name: string) =>
  defineKernel({
    name,
    inputs: ["x"],
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: { way: [0, 1, 2] },
    source: (bindings, { way }) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_y(i, load_x(i) + ${way === 0 ? 1 : 0}.0); }
    }`,
    grid: ({ n }) => Math.ceil(n / 64),
  });
const odd = oddKernel("test.odd");
const call: Problem = {
  name: "odd",
  run(device) {
    const x = tensor(device, new Float32Array(4096).fill(3));
    odd({ x }, { y: x }, { n: 4096 });
  },
};

/** Runs the command in this process, on the adapter that needs no other cache. */
async function run(args: readonly string[], problems: readonly Problem[] = [call]) {
  let [stdout, stderr, code] = ["", "", 0];
  const output = { out: (text: string) => (stdout += text), err: (text: string) => (stderr += text), terminal: false };
  const program = new Command("rot-cli").configureOutput({ writeOut: output.out, writeErr: output.err }).exitOverride();
  program.addCommand(tune(output, problems).copyInheritedSettings(program));
  try {
    await program.parseAsync(["tune", ...args, "--adapter", "embedded", "--rounds", "1"], { from: "user" });
  } catch (error) {
    code = exitCodeOf(error);
    stderr += (error as Error).message;
  }
  return { code, stdout, stderr };
}

interface Stored {
  readonly choices: readonly { kernel: string; source: string; setting: object; ratio: number }[];
}
const stored = (file: string) => JSON.parse(readFileSync(file, "utf8")) as Stored;

/** What a later run is told, and the setting that it takes. */
async function laterRun() {
  const lines: string[] = [];
  const device = await openDevice({ adapter: "embedded", tune: "cached", notice: (line) => lines.push(line) });
  let taken: object | undefined;
  const find = device.tunings.find.bind(device.tunings);
  device.tunings.find = (...call) => (taken = find(...call));
  call.run(device);
  await device.sync();
  device.destroy();
  return { taken, warnings: lines.filter((line) => line.startsWith("tuner:")) };
}

test("a user tunes, and later runs take the setting that was found", async () => {
  const { code, stdout, stderr } = await run([]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining("tune: 1 part of 1 part") });
  expect(stdout).toMatch(/^SwiftShader.*: 1 call, 0 faster at another setting than the usual one$/m);
  expect(stdout).toMatch(/^test\.odd +1\.00 +\S+ +way=[12] +x \[4096\] f32$/m);
  expect(stdout).toMatch(/^test\.odd way=0 differs: result 0 is 4 instead of 3 at element 0 \(x \[4096\] f32\)$/m);
  expect(stdout).not.toContain("\u001b");
  const file = /^stored in (.+)$/m.exec(stdout)?.[1] as string;
  expect(file.startsWith(join(root, "render-of-thought", "tunings-swiftshader-"))).toBe(true);
  expect(stored(file).choices).toMatchObject([{ kernel: "test.odd", ratio: 1 }]);
  expect(await laterRun()).toEqual({ taken: stored(file).choices[0]?.setting, warnings: [] });

  // Of an older text of the kernel; and of one that this run did not tune.
  const { choices, ...rest } = stored(file);
  const stale = { ...choices[0], source: "0123456789abcdef" };
  writeFileSync(file, JSON.stringify({ ...rest, choices: [stale, { ...stale, kernel: "test.other" }] }));
  expect((await laterRun()).taken).toBeUndefined();
  await run([]);
  expect(stored(file).choices.map(({ kernel, source }) => [kernel, source === stale.source])).toEqual([
    ["test.other", true],
    ["test.odd", false],
  ]);

  const before = readFileSync(file, "utf8");
  const dry = await run(["test", "--dry-run", "--json"]);
  const report = JSON.parse(dry.stdout) as { file: null; measured: object[] };
  expect(report).toMatchObject({ file: null, skipped: [], measured: [{ kernel: "test.odd" }] });
  expect(readFileSync(file, "utf8")).toBe(before);

  writeFileSync(file, before.slice(0, -20));
  expect(await laterRun()).toEqual({
    taken: undefined,
    warnings: [expect.stringContaining("is ignored: it is no JSON")],
  });
});

test("the name of a kernel picks the problems of its op, if it has any, and then old entries stay", async () => {
  const ran: string[] = [];
  const [own, other] = ["own", "other"].map((op): Problem => {
    const kernel = oddKernel(`${op}.forward`);
    return {
      name: `${op} [1]`,
      run(device) {
        ran.push(op);
        kernel({ x: tensor(device, [1]) }, { y: { shape: [1], dtype: "f32" } }, { n: 1 });
      },
    };
  }) as [Problem, Problem];
  const both = [own, other, call];
  const { stdout } = await run(["own.for"], both);
  expect(ran).toEqual(["own"]);
  const file = /^stored in (.+)$/m.exec(stdout)?.[1] as string;
  const { choices, ...rest } = stored(file);
  const stale = { ...choices.find(({ kernel }) => kernel === "own.forward"), source: "0123456789abcdef" };
  writeFileSync(file, JSON.stringify({ ...rest, choices: [stale] }));
  const sources = () =>
    stored(file).choices.flatMap(({ kernel, source }) => (kernel === "own.forward" ? [source] : []));
  await run(["own"], both);
  expect(sources()).toHaveLength(2);
  await run(["test.odd"], both);
  expect(ran).toEqual(["own", "own", "own", "other"]);
  await run([], both);
  expect(sources()).toHaveLength(1);
  expect(sources()).not.toContain(stale.source);
});

test("a signal keeps what was measured, and --resume measures only the rest", async () => {
  const [first, second, third] = ["test.first", "test.second", "test.third"].map((name): Problem => {
    const kernel = oddKernel(name);
    return {
      name,
      run: (device) => void kernel({ x: tensor(device, [1]) }, { y: { shape: [1], dtype: "f32" } }, { n: 1 }),
    };
  }) as [Problem, Problem, Problem];
  const interrupted: Problem = { ...second, run: (device) => (second.run(device), void process.emit("SIGINT")) };
  const stopped = await run([], [first, interrupted, third]);
  expect(stopped).toMatchObject({ code: 85, stderr: expect.stringContaining("go on with: rot-cli tune --resume") });
  expect(stopped.stdout).toMatch(/^SwiftShader.*: 1 call/m);
  const file = /^stored in (.+)$/m.exec(stopped.stdout)?.[1] as string;
  const tuned = () => stored(file).choices.flatMap(({ kernel }) => (/first|second|third/.test(kernel) ? [kernel] : []));
  expect(tuned()).toEqual(["test.first"]);
  expect(process.listenerCount("SIGINT")).toBe(0);

  const resumed = await run(["--resume", "--json"], [first, second, third]);
  expect(
    (JSON.parse(resumed.stdout) as { measured: { kernel: string }[] }).measured.map(({ kernel }) => kernel),
  ).toEqual(["test.second", "test.third"]);
  expect(tuned()).toEqual(["test.first", "test.second", "test.third"]);
  expect(await run(["--resume"], [first])).toMatchObject({ code: 0, stdout: expect.stringContaining(": 0 calls") });
});

test("what cannot be tuned is an error with exit code 2", async () => {
  expect(await run(["softmux"])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/begins with "softmux" .*; there are: test\.odd$/),
  });
  const program = new Command().exitOverride();
  program.addCommand(tune({ out: () => {}, err: () => {}, terminal: false }, [call]));
  await expect(program.parseAsync(["tune", "--rounds", "0"], { from: "user" })).rejects.toThrow('--rounds is "0"');
});
