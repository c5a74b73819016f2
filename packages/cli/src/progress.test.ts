import { expect, test } from "vitest";
import { duration, progress } from "./progress.ts";

function record(terminal: boolean, from?: number) {
  let clock = 0;
  const lines: string[] = [];
  const report = progress(
    { out: () => {}, err: (text) => lines.push(text), terminal },
    { label: "convert", unit: "rows", now: () => clock, ...(from !== undefined && { from }) },
  );
  return { lines, report, wait: (milliseconds: number) => (clock += milliseconds) };
}

test("without a terminal there is a plain line every ten seconds, with share, rate and time left", () => {
  const { lines, report, wait } = record(false);
  for (let done = 0; done <= 300; done++) {
    report.update({ done, total: 1000 });
    wait(100);
  }
  expect(lines).toEqual([
    "convert: 100 rows of 1,000 rows · 10 % · 10 rows/s · 1 min 30 s left\n",
    "convert: 200 rows of 1,000 rows · 20 % · 10 rows/s · 1 min 20 s left\n",
    "convert: 300 rows of 1,000 rows · 30 % · 10 rows/s · 1 min 10 s left\n",
  ]);
  for (const code of ["\r", "\u001b"]) expect(lines.join("")).not.toContain(code);
});

test("on a terminal one line is redrawn, at most ten times a second", () => {
  const { lines, report, wait } = record(true);
  for (let done = 0; done < 1000; done++) {
    report.update({ done, total: 1000, note: "loss 0.5" });
    wait(1);
  }
  report.update({ done: 1000, total: 1000 });
  report.finish();
  expect(lines.length).toBeLessThanOrEqual(13);
  expect(lines[3]).toMatch(/^\rconvert: \d+ rows of 1,000 rows · \d+ % · .* left · loss 0\.5/);
  expect(lines[3]?.endsWith("\u001b[K")).toBe(true);
  expect(lines.at(-2)).toContain("1,000 rows of 1,000 rows · 100 % · 1,000 rows/s · in 1.0 s");
  expect(lines.at(-1)).toBe("\n");
});

test("the time left follows a change of pace within half a minute", () => {
  const { lines, report, wait } = record(false);
  let done = 0;
  for (let i = 0; i < 600; i++, wait(100)) report.update({ done: (done += 10), total: 100_000 });
  for (let i = 0; i < 400; i++, wait(100)) report.update({ done: (done += 1), total: 100_000 });
  const rate = Number(/· ([\d.]+) rows\/s/.exec(lines.at(-1) as string)?.[1]);
  expect(rate).toBeGreaterThanOrEqual(10);
  expect(rate).toBeLessThan(25);
});

test("what was done before is no part of the rate, and the last line stands there once", () => {
  const { lines, report, wait } = record(false, 5000);
  wait(20_000);
  report.update({ done: 5002, total: 5004 });
  wait(20_000);
  report.update({ done: 5004, total: 5004 });
  report.finish();
  expect(lines).toEqual([
    "convert: 5,002 rows of 5,004 rows · 99 % · 0.10 rows/s · 20 s left\n",
    "convert: 5,004 rows of 5,004 rows · 100 % · 0.10 rows/s · in 40 s\n",
  ]);
});

test("durations are said as people say them", () => {
  expect([0.42, 42, 185, 7800].map(duration)).toEqual(["0.4 s", "42 s", "3 min 5 s", "2 h 10 min"]);
});
