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
  target: 1,
  ...more,
});

const report = (lines: readonly Line[], more: Partial<Report> = {}): Report => ({
  adapter: "a <fake> adapter & co",
  kind: "software",
  commit: "abc1234",
  tunings: 0,
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
  // As `npm run bench -- --json > before.json` leaves it.
  writeFileSync(file, `\n> name@1.0.0 bench\n> tsx main.ts --json\n\n${JSON.stringify(written)}\n`);
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

test("each benchmark has one number in the roofline, and no number covers another or a dot", () => {
  const near = (name: string, milliseconds: number, more: Partial<Line> = {}): Line =>
    line(milliseconds, { benchmark: name, ...more });
  const lines = [
    ...Array.from({ length: 12 }, (_, i) => near(`op ${i}`, 2 + i / 50, { gigabytes: 5 * 0.93 ** i })),
    near("op 3", 1, { candidate: "faster, and not what peers do", comparable: false }),
    near("only cases", 9, { comparable: false, candidate: "slow" }),
    near("only cases", 2.1, { comparable: false, candidate: "fast" }),
  ];
  const svg = roofline(report(lines));
  const names = [...svg.matchAll(/>(\d+ {2}[^<]+)</g)].map(([, text]) => text);
  expect(names).toHaveLength(13);
  expect(names.slice(-2)).toEqual(["12  op 11, a · b", "13  only cases, fast"]);
  const numbers = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)">(\d+)</g)].map(([, x, y, n]) => ({
    left: Number(x),
    right: Number(x) + 6 * (n as string).length,
    y: Number(y),
  }));
  expect(numbers).toHaveLength(13);
  const dots = [...svg.matchAll(/cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => ({
    x: Number(x),
    y: Number(y) + 4,
  }));
  for (const { left, right, y } of numbers) {
    for (const dot of dots) expect(right <= dot.x - 4 || dot.x + 4 <= left || Math.abs(y - dot.y) >= 10).toBe(true);
  }
  for (const [i, one] of numbers.entries()) {
    for (const other of numbers.slice(i + 1)) {
      expect(one.right <= other.left || other.right <= one.left || Math.abs(one.y - other.y) >= 10).toBe(true);
    }
  }
});

test("a roofline without dots still has its roof", () => {
  expect(roofline(report([]))).toMatch(/class="roof" d="M[\d.]+ [\d.]+L[\d.]+ [\d.]+H\d+"/);
});

test("peers stand beside ours; one that computed something else does not count", () => {
  const peer = (candidate: string, milliseconds: number, more: Partial<Line> = {}): Line =>
    line(milliseconds, { candidate, by: "webgpu", ratio: null, partOfPeak: null, target: null, ...more });
  const lines = [line(2), peer("right", 6), peer("wrong", 1, { comparable: false }), peer("wasm", 5, { by: "wasm" })];
  const text = table(report(lines));
  expect(text).toContain("wrong (another result!)");
  expect(text).toMatch(/matmul 8\s+2\.000\s+6\.000\s+1\.000 !\s+5\.000\s+×3\.00\s+×2\.50\s+×1$/m);
  const row = (ours: Line, ...others: Line[]): string =>
    markdown(report([ours, ...others]), "picture.svg")
      .split("\n")
      .find((one) => one.startsWith("| matmul 8 |")) as string;
  expect(row(...(lines as [Line]))).toBe("| matmul 8 | 2.000 | 6.000 | 1.000 ! | 5.000 | ×3.00 | ×2.50 |  | ×1 |");
  const wasm = peer("wasm", 1.5, { by: "wasm" });
  expect(row(line(2, { target: 5 }), peer("right", 9))).toMatch(/\| ×5 missed: WebGPU \|$/);
  expect(row(line(2, { target: 5 }), peer("right", 10), wasm)).toMatch(/\| ×5 missed: wasm \|$/);
  expect(row(line(2, { target: 5 }), peer("right", 9), wasm)).toMatch(/\| ×5 missed: WebGPU, wasm \|$/);
  // Only a peer for which there is no target, and one that computed something else.
  expect(row(line(2), peer("cpu", 1, { by: "cpu" }), peer("wrong", 1, { comparable: false }))).toMatch(
    /×0\.50 \| {2}\|$/,
  );
});

test("a report says whose settings the kernels ran at", () => {
  expect(table(report([line(1)]))).toContain("kernels at the settings they ship with");
  expect(table(report([line(1)], { tunings: 3 }))).toContain("kernels as rot-cli tune set them: 3 choices");
});

test("noise is the same in every language", () => {
  expect([...noise(3, 1)]).toEqual([-0.49223488569259644, 0.12231957912445068, -0.47022545337677]);
  expect(agree([1, 2, 3, 4], [1, 2, 3, 4.05])).toBe(true);
  expect(agree([1, 2, 3, 4], [1, 2, 3, 4.2])).toBe(false);
  expect(agree([NaN, 2, 3, 4], [1, 2, 3, 4])).toBe(false);
  expect(fingerprint([7])).toEqual([7, 7, 7, 7]);
  expect(fingerprint([1, 2, 3, 4, 5])).toEqual([1, 2, 3, 5]);
});
