import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { compare, comparisonText } from "./compare.ts";
import { agree, fingerprint, noise } from "./noise.ts";
import { type Line, readReport, type Report } from "./report.ts";
import { roofline } from "./roofline.ts";
import { markdown, table } from "./text.ts";

const line = (milliseconds: number, more: Partial<Line> = {}): Line => ({
  benchmark: "matmul 8",
  candidate: "a · b",
  by: "ours",
  milliseconds,
  quartiles: [0.95 * milliseconds, 1.05 * milliseconds],
  rounds: 7,
  gigaflops: 100 / milliseconds,
  gigabytes: 10 / milliseconds,
  tokensPerSecond: null,
  partOfPeak: 0.5,
  ratio: null,
  comparable: true,
  ...more,
});

const report = (lines: readonly Line[], more: Partial<Report> = {}): Report => ({
  adapter: "a <fake> adapter & co",
  kind: "software",
  commit: "abc1234",
  date: "2026-01-02T03:04:05.678Z",
  load: [0.5, 1.5],
  peaks: { gigaflops: 100, gigabytes: 10 },
  dispatchMicroseconds: 5,
  peers: [],
  failures: [],
  lines: [...lines],
  ...more,
});

const verdicts = (before: Report, after: Report): string[] => compare(before, after).changes.map((c) => c.verdict);

test("a line is slower only beyond the spread of both runs and a tenth", () => {
  const before = report([line(10)]);
  expect(verdicts(before, report([line(10)]))).toEqual(["same"]);
  expect(verdicts(before, report([line(12)]))).toEqual(["same"]);
  expect(verdicts(before, report([line(12.5)]))).toEqual(["slower"]);
  expect(verdicts(before, report([line(20, { quartiles: [11, 25] })]))).toEqual(["same"]);
  expect(verdicts(before, report([line(5)]))).toEqual(["faster"]);
});

test("a machine that is slower as a whole is no regression", () => {
  const busy = report([line(18)], { peaks: { gigaflops: 60, gigabytes: 9 } });
  expect(verdicts(report([line(10)]), busy)).toEqual(["same"]);
  expect(verdicts(report([line(10)]), { ...busy, lines: [line(30)] })).toEqual(["slower"]);
  const quick = report([line(12.5)], { peaks: { gigaflops: 200, gigabytes: 20 } });
  expect(verdicts(report([line(10)]), quick)).toEqual(["slower"]);
});

test("only our own lines are compared, and those that are missing are named", () => {
  const before = report([
    line(10),
    line(1, { candidate: "gone" }),
    line(1, { by: "reference", candidate: "reference" }),
  ]);
  const after = report([line(10), line(9, { by: "reference", candidate: "reference" })]);
  const found = compare(before, after);
  expect(found.changes).toHaveLength(1);
  expect(found.unmeasured).toEqual(["matmul 8, gone"]);
  expect(comparisonText(found)).toContain("not measured now  matmul 8, gone");
});

test("runs on two adapters, or of other benchmarks, are refused", () => {
  expect(() => compare(report([line(1)]), report([line(1)], { adapter: "another" }))).toThrow("another");
  expect(() => compare(report([line(1)]), report([line(1, { benchmark: "add" })]))).toThrow("no line in common");
});

test("a report is read back as it was written, and another file is refused by name", () => {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "before.json");
  const written = report([line(1)]);
  writeFileSync(file, JSON.stringify(written));
  expect(readReport(file)).toEqual(written);
  writeFileSync(file, "matmul 8");
  expect(() => readReport(file)).toThrow(/before\.json: it is no JSON/);
  writeFileSync(file, JSON.stringify({ ...written, peaks: { gigaflops: 0, gigabytes: 1 } }));
  expect(() => readReport(file)).toThrow(/before\.json: it is no report[^]*peaks/);
});

test("the roofline is well-formed, with a dot for every line that has operations and bytes", () => {
  const lines = [line(2), line(8, { by: "reference" }), line(1, { gigabytes: null }), line(1, { by: "webgpu" })];
  const svg = roofline(report(lines));
  const open: string[] = [];
  for (const [, close, name, own] of svg.matchAll(/<(\/?)(\w+)[^<>]*?(\/?)>/g)) {
    if (close) expect(open.pop()).toBe(name);
    else if (!own) open.push(name as string);
  }
  expect(open).toEqual([]);
  expect(svg.match(/<circle/g)).toHaveLength(2);
  expect(svg).toContain("a &lt;fake&gt; adapter &amp; co");
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
});

test("a roofline without dots still has its roof", () => {
  expect(roofline(report([]))).toMatch(/class="roof" d="M[\d.]+ [\d.]+L[\d.]+ [\d.]+H\d+"/);
});

test("peers stand beside ours; one that computed something else does not count", () => {
  const peer = (candidate: string, milliseconds: number, more: Partial<Line> = {}): Line =>
    line(milliseconds, { candidate, by: "webgpu", ratio: null, partOfPeak: null, ...more });
  const lines = [line(2), peer("right", 6), peer("wrong", 1, { comparable: false }), peer("wasm", 5, { by: "wasm" })];
  const text = table(report(lines));
  expect(text).toContain("wrong (another result!)");
  expect(text).toMatch(/matmul 8\s+2\.000\s+6\.000\s+1\.000 !\s+5\.000\s+×3\.00\s+×2\.50/);
  expect(markdown(report(lines), "picture.svg")).toContain(
    "| matmul 8 | 2.000 | 6.000 | 1.000 ! | 5.000 | ×3.00 | ×2.50 |  |",
  );
});

test("noise is the same in every language", () => {
  expect([...noise(3, 1)]).toEqual([-0.49223488569259644, 0.12231957912445068, -0.47022545337677]);
  expect(agree([1, 2, 3, 4], [1, 2, 3, 4.05])).toBe(true);
  expect(agree([1, 2, 3, 4], [1, 2, 3, 4.2])).toBe(false);
  expect(agree([NaN, 2, 3, 4], [1, 2, 3, 4])).toBe(false);
  expect(fingerprint([7])).toEqual([7, 7, 7, 7]);
  expect(fingerprint([1, 2, 3, 4, 5])).toEqual([1, 2, 3, 5]);
});
