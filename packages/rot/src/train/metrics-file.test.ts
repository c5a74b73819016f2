import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type MetricsRow, openMetrics } from "./metrics-file.ts";

let path: string;
beforeEach(async () => {
  path = join(await mkdtemp(join(tmpdir(), "rot-metrics-")), "metrics.jsonl");
});
afterEach(() => rm(join(path, ".."), { recursive: true }));

const upTo =
  (step: number) =>
  (row: MetricsRow): boolean =>
    row.step <= step;

const steps = async () =>
  (await readFile(path, "utf8"))
    .split("\n")
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as { step: number }).step);

test("each line is there as soon as it is appended; NaN is written as null", async () => {
  const metrics = await openMetrics(path, upTo(-1));
  await metrics.append({ step: 0, loss: 1.5 });
  expect(await readFile(path, "utf8")).toBe('{"step":0,"loss":1.5}\n');
  await metrics.append({ step: 1, loss: NaN });
  expect(await readFile(path, "utf8")).toBe('{"step":0,"loss":1.5}\n{"step":1,"loss":null}\n');
});

test("after a resume there is one line a step: later ones and a torn one are cut off", async () => {
  await writeFile(path, '{"step":1,"note":"é"}\n{"step":2}\n{"step":3}\n{"step":4,"lo');
  const metrics = await openMetrics(path, upTo(2));
  await metrics.append({ step: 3 });
  expect(await steps()).toEqual([1, 2, 3]);
  await openMetrics(path, upTo(-1));
  expect(await readFile(path, "utf8")).toBe("");
});

test("a file that ends in the midst of a line keeps the whole ones", async () => {
  await writeFile(path, '{"step":1}\n{"step":2');
  await openMetrics(path, upTo(10));
  expect(await steps()).toEqual([1]);
});
