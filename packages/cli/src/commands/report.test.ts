import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { run as runCommand } from "../../test/tools/run-cli.ts";

const folder = mkdtempSync(join(tmpdir(), "rot-cli-report-"));
afterAll(() => rmSync(folder, { recursive: true }));

const run = (...args: readonly string[]) => runCommand("report", ...args);

test("a run's page is written beside it, or where it is wanted, and its path is printed", async () => {
  writeFileSync(join(folder, "metrics.jsonl"), '{"step":1,"loss":2}\n{"step":2,"loss":1}\n');
  expect(await run(folder)).toEqual({ status: 0, stdout: `${join(folder, "report.html")}\n`, stderr: "" });
  expect(readFileSync(join(folder, "report.html"), "utf8")).toContain("<polyline");
  const elsewhere = join(folder, "elsewhere.html");
  expect((await run(folder, "--output", elsewhere)).status).toBe(0);
  expect(existsSync(elsewhere)).toBe(true);
});

test("a folder that holds no run, and a page that cannot be written", async () => {
  const none = await run(join(folder, "none"));
  expect(none.stderr).toMatch(/none holds no run: neither metrics\.jsonl, here or a folder below, nor run\.json/);
  expect(none.status).toBe(2);
  expect((await run(folder, "--output", join(folder, "none", "a.html"))).status).toBe(3);
});
