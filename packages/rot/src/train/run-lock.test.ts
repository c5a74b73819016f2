import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "@rot/tensor";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockRun } from "./run-lock.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-lock-"));
});
afterEach(() => rm(folder, { recursive: true }));

test("a second trainer is refused and told who is there; after a release the folder is free", async () => {
  const lock = await lockRun(folder);
  const refused = await lockRun(folder).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UsageError);
  expect((refused as Error).message).toContain(`process ${process.pid} on ${hostname()}`);
  await lock.release();
  await (await lockRun(folder)).release();
});

test("twenty starters at once: one wins", async () => {
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockRun(folder)));
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test.for([
  ["of a process that is no more", { pid: 2 ** 22 + 1, host: hostname(), began: "1" }],
  ["of a pid that another process now has", { pid: process.pid, host: hostname(), began: "never" }],
  ["that was torn", null],
] as const)("a lock %s is taken over, by one of twenty starters", async ([, holder]) => {
  await writeFile(join(folder, "run.lock"), holder ? JSON.stringify(holder) : '{"pid": 1');
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockRun(folder)));
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(JSON.parse(await readFile(join(folder, "run.lock"), "utf8"))).toMatchObject({ pid: process.pid });
});

test("the lock of a living process of another kind is respected, and of another machine too", async () => {
  const child = spawn("sleep", ["60"]);
  const line = await readFile(`/proc/${child.pid}/stat`, "utf8").catch(() => "");
  const began = line.slice(line.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  await writeFile(join(folder, "run.lock"), JSON.stringify({ pid: child.pid, host: hostname(), began }));
  await expect(lockRun(folder)).rejects.toThrow(`process ${child.pid}`);
  child.kill();
  await writeFile(join(folder, "run.lock"), JSON.stringify({ pid: 1, host: "elsewhere", began: "" }));
  await expect(lockRun(folder)).rejects.toThrow("on elsewhere");
});
