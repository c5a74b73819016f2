import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exitCodeOf } from "../exit-codes.ts";
import { bench } from "./bench.ts";
import type { Report } from "../bench/report.ts";
import type { Peer, Peers } from "../bench/peers.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** An engine that answers at once, with another result than ours. */
const peer: Peer = {
  name: "quick",
  kind: "cpu",
  version: "1",
  prepare: async ({ name }) => (name === "dispatches" ? [1, 2, 3, 4] : null),
  time: async (repeats) => 25 * repeats,
  stop: () => {},
};
const peers: Peers = {
  names: ["quick", "absent", "ctrl-c"],
  async start(names) {
    if (names.includes("ctrl-c")) process.emit("SIGINT");
    return {
      running: names.includes("quick") ? [peer] : [],
      missing: names.includes("absent") ? [{ name: "absent", why: "not installed" }] : [],
    };
  },
};

async function call(...args: string[]): Promise<{ out: string; err: string; code: number; message: string }> {
  let [out, err] = ["", ""];
  const output = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    terminal: false,
  };
  const command = bench(output, { command: "npm run bench --", peers, results: folder });
  command.exitOverride().configureOutput({ writeErr: output.err, writeOut: output.out });
  try {
    await command.parseAsync(args, { from: "user" });
    return { out, err, code: 0, message: "" };
  } catch (error) {
    return { out, err, code: exitCodeOf(error), message: (error as Error).message };
  }
}

test("one small case is timed, saved with its roofline, and compared with itself", async () => {
  const first = await call("swiglu: [1] f32 · f32, scale 1", "--json", "--save", "--rounds", "3");
  expect(first.message).toBe("");
  const report = JSON.parse(first.out) as Report;
  expect(report.lines.map(({ candidate }) => candidate)).toContain("forward + backward");
  expect(report.lines.every(({ milliseconds }) => milliseconds > 0)).toBe(true);
  const saved = readdirSync(folder).filter((name) => /\.(md|svg)$/.test(name));
  expect(saved).toHaveLength(2);
  const text = readFileSync(join(folder, saved[0] as string), "utf8");
  expect(text).toContain(`](${saved[1]})`);
  expect(text).toContain("- kernels at the settings they ship with");

  // A report that says all was a thousand times faster then: a regression, whatever the machine does now.
  const quartiles = ([a, b]: [number, number]): [number, number] => [a / 1e5, b / 1e5];
  const faster = report.lines.map((line) => ({ ...line, quartiles: quartiles(line.quartiles) }));
  const file = join(folder, "before.json");
  writeFileSync(file, JSON.stringify({ ...report, lines: faster }));
  const second = await call("swiglu: [1] f32 · f32, scale 1", "--rounds", "3", "--compare", file);
  expect(second.code).toBe(1);
  expect(second.message).toContain("slower than in");
});

test("a peer is measured beside ours, flagged when it computes something else, and listed when it is missing", async () => {
  const { out, message } = await call("1000 tiny", "--peers", "quick,absent", "--rounds", "3");
  expect(message).toBe("");
  expect(out).toContain("did not run: absent: not installed");
  expect(out).toContain("quick (another result!)");
});

test("a signal ends it with what was measured, and nothing is saved or compared in its place", async () => {
  const before = readdirSync(folder);
  const file = join(folder, "before.json");
  const stopped = await call("1000 tiny", "--peers", "ctrl-c", "--rounds", "3", "--save", "--compare", file);
  expect(stopped).toMatchObject({ code: 85, message: "stopped before the end; nothing was saved or compared" });
  expect(stopped.err).toContain("stopping after this benchmark");
  expect(stopped.out).toContain("measured peak");
  expect(stopped.out).not.toContain("1000 tiny");
  expect(readdirSync(folder)).toEqual(before);
  expect(process.listenerCount("SIGINT")).toBe(0);
});

test.for([
  [["no-such-op"], "no benchmark has"],
  [["--rounds", "2"], "--rounds is a whole number from 3"],
  [["--peers", "quick,other"], 'there is no "other"'],
  [["--compare", join(import.meta.dirname, "bench.ts")], "it is no JSON"],
  [["--compare", "no-such-file.json"], "no-such-file.json: there is no such file; make one with"],
] as const)("%s is refused before anything is measured", async ([args, message]) => {
  const result = await call(...args);
  expect(result.code).toBe(2);
  expect(result.message).toContain(message);
});

test("without a checkout --peers says where it works", async () => {
  const command = bench({ out: () => {}, err: () => {}, terminal: false }).exitOverride();
  await expect(command.parseAsync(["--peers"], { from: "user" })).rejects.toThrow("npm run bench -- --peers");
});
