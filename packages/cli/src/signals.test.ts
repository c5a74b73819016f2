/** A training process that is told to stop: what it saves, how it exits, how it goes on. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { latestCheckpoint } from "@rot/rot/node";
import { afterAll, expect, test, vi } from "vitest";
import { exitCodes } from "./exit-codes.ts";
import { stopSignal } from "./stop-signal.ts";

const main = resolve(import.meta.dirname, "main.ts");
const model = resolve(import.meta.dirname, "../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-signals-"));
afterAll(() => rmSync(folder, { recursive: true }));

const settings = [
  "head.hidden=16",
  "rendering.font_size=8",
  "rendering.thought_markers=false",
  "checkpoint.every=1000",
];

/** `rot-cli train`, and what it says. */
function train(output: string, steps: number, ...more: string[]) {
  const args = ["--model", model, "--dataset", "synthetic", "--stage", "1", "--batch_size", "2", "--output", output];
  const child: ChildProcess = spawn(
    process.execPath,
    [
      "--conditions=@rot/source",
      "--import",
      "tsx",
      main,
      "train",
      ...args,
      "--max_steps",
      String(steps),
      "--json",
    ].concat(
      ["data.synthetic_samples=40", ...settings].flatMap((setting) => ["--set", setting]),
      more,
    ),
  );
  const said = { stdout: "", stderr: "" };
  child.stdout?.on("data", (text: Buffer) => (said.stdout += text.toString()));
  child.stderr?.on("data", (text: Buffer) => (said.stderr += text.toString()));
  const ended = new Promise<number | null>((done) => child.on("close", (code) => done(code)));
  /** When so many steps were reported. */
  const stepped = (count: number): Promise<void> =>
    new Promise((done, fail) => {
      const look = (): void => {
        if (said.stdout.split("\n").filter((line) => line.includes('"step"')).length >= count) done();
      };
      child.stdout?.on("data", look);
      child.on("close", () => fail(new Error(`it ended before step ${count}:\n${said.stderr}`)));
    });
  return { child, said, ended, stepped };
}

/** The step of the latest checkpoint, which must be whole. */
async function savedStep(output: string): Promise<number> {
  const found = await latestCheckpoint(join(output, "checkpoints"), (message) => expect.fail(message));
  return found?.step ?? NaN;
}

test.for([
  ["SIGINT", exitCodes.stopped],
  ["SIGTERM", exitCodes.terminated],
] as const)(
  "%s finishes the step, saves, says how to go on and exits with %i; the run goes on from there",
  { timeout: 120_000 },
  async ([signal, code]) => {
    const output = join(folder, signal);
    const steps = 100;
    const first = train(output, steps);
    await first.stepped(2);
    first.child.kill(signal);
    expect(await first.ended, first.said.stderr).toBe(code);
    expect(first.said.stderr).toContain(`${signal}: finishing the step and saving`);
    expect(first.said.stderr).toContain(`--resume`);
    const step = await savedStep(output);
    expect(step).toBeGreaterThanOrEqual(2);
    expect(step).toBeLessThan(steps);
    if (signal !== "SIGTERM") return;
    const second = train(output, steps, "--resume");
    expect(await second.ended, second.said.stderr).toBe(exitCodes.done);
    expect(second.said.stderr).toContain(`going on after step ${step}`);
    expect(await savedStep(output)).toBe(steps);
  },
);

test.for([
  ["SIGINT", exitCodes.interrupted],
  ["SIGTERM", exitCodes.terminated],
] as const)("a second signal ends at once: %s with %i", ([signal, code]) => {
  const exit = vi.spyOn(process, "exit").mockImplementation(() => {
    throw new Error("exit");
  });
  const said: string[] = [];
  const stop = stopSignal((text) => said.push(text));
  process.emit("SIGUSR1", "SIGUSR1");
  expect([stop.signal.aborted, stop.code, exit.mock.calls.length]).toEqual([true, exitCodes.stopped, 0]);
  expect(() => process.emit(signal, signal)).toThrow("exit");
  expect(exit.mock.calls).toEqual([[code]]);
  expect(said).toEqual(["SIGUSR1: finishing the step and saving; once more ends at once"]);
  stop.dispose();
  exit.mockRestore();
  expect(process.listenerCount("SIGUSR1")).toBe(0);
});
