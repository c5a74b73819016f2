import { expect, test } from "vitest";
import { run, spawn, spawnIn } from "../test/tools/run-cli.ts";

test("doctor finds a device, tests it, and exits with 0", () => {
  const { status, stdout, stderr } = spawn("doctor");
  expect(stderr).toMatch(/^adapter: .+\n$/);
  expect(stdout).toMatch(/^Self-test {2}passed: matmul 256, error \d\.\de-\d, \d+\.\d GFLOP\/s/m);
  expect(status).toBe(0);
});

test("doctor --json prints one JSON object and no escape codes", () => {
  const { status, stdout } = spawn("doctor", "--json", "--adapter", "embedded");
  expect(status).toBe(0);
  const report = JSON.parse(stdout) as Record<string, unknown>;
  expect(report).toMatchObject({
    node: process.versions.node,
    healthy: true,
    adapter: { kind: "embedded", features: { f16: false, subgroups: [4, 4], timestampQuery: true } },
    selfTest: { passed: true, size: 256 },
  });
  expect(stdout).not.toContain("\u001b");
});

test("doctor without a device says what was tried and exits with 4", () => {
  const { status, stdout, stderr } = spawnIn({ ROT_ADAPTER: "no such adapter" }, "doctor", "--json");
  expect(status).toBe(4);
  expect(JSON.parse(stdout)).toMatchObject({ healthy: false, adapter: null, selfTest: null });
  expect(stderr).toContain('rot-cli: no adapter has "no such adapter" in its name');
});

test("a misspelt command or flag is answered with the nearest one and exit code 2", async () => {
  expect(spawn("docter")).toMatchObject({ status: 2, stderr: expect.stringContaining("Did you mean doctor?") });
  expect(await run("doctor", "--jsn")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("Did you mean --json?"),
  });
});

test("a setting of the environment that is none is refused", () => {
  expect(spawnIn({ ROT_DEBUG: "loud" }, "doctor")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ROT_DEBUG"),
  });
});

test("help and version go to stdout and exit with 0", async () => {
  const help = spawn("--help");
  expect(help.status).toBe(0);
  expect(help.stdout).toMatch(/Examples:\n {2}rot-cli doctor/);
  expect((await run("doctor", "--help")).stdout).toContain("--adapter <name>");
  expect((await run("--version")).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});
