import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImageProcessor } from "@rot/models";
import { loadChatTemplate, loadImageProcessor, loadTokenizer } from "@rot/models/node";
import { UsageError } from "@rot/tensor";
import { PNG } from "pngjs";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { goldenFolder } from "../../../../../models/test/tools/golden-folder.ts";
import { dejaVuSans } from "../../../render/node/dejavu.ts";
import { createRenderer } from "../../../render/strip.ts";
import { readDataset } from "../../node/read-dataset.ts";
import { DatasetError, type Sample } from "../../sample.ts";
import type { Measure } from "../measure.ts";
import { preprocess, type PreprocessOptions } from "./preprocess.ts";

let folder: string;
let plain: Measure;
let withModel: Measure;
beforeAll(async () => {
  const renderer = await createRenderer({ fonts: [await dejaVuSans()] });
  const published = { minPixels: 65_536, maxPixels: 16_777_216, patchSize: 16, temporalPatchSize: 2, mergeSize: 2 };
  const values = { imageMean: [0.5, 0.5, 0.5], imageStd: [0.5, 0.5, 0.5], rescaleFactor: 1 / 255 } as const;
  plain = { renderer, processor: new ImageProcessor({ ...published, ...values }) };
  const model = goldenFolder("qwen3vl_tiny");
  const tokenizer = await loadTokenizer(model);
  const prompting = { tokenizer, template: await loadChatTemplate(model, tokenizer) };
  withModel = { renderer, processor: await loadImageProcessor(model), prompting };
});
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "rot preprocess "))));
afterEach(() => rm(folder, { recursive: true }));

const run = (samples: readonly Sample[], options: Partial<PreprocessOptions> = {}) =>
  preprocess(samples, {
    ...plain,
    dataset: "tiny",
    split: "train",
    outputFolder: folder,
    encoding: "exact",
    onBadRow: "fail",
    ...options,
  });
const text = (name: string): Promise<string> => readFile(join(folder, `tiny_train_${name}`), "utf8");
const rowsOf = async (): Promise<Record<string, unknown>[]> =>
  (await text("processed.jsonl"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const chain = (id: number, cot: string): Sample => ({ id, question: "Why?", cot, answer: "7" });

/** The paper's own: 1300 pixels, 41 latents here, two rows of 55 in the reference. */
const sprints = "He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.";

test("rows, statistics and report, as worked out by hand", async () => {
  const { statistics, files } = await run([chain(3, sprints), chain(4, "😀"), chain(9, "a b\u00a0c\n\nd ")]);
  expect(statistics).toMatchObject({
    total_samples: 3,
    cot_char_length: { mean: expect.closeTo((71 + 1 + 9) / 3, 9) as number, min: 1, max: 71, median: 9 },
    cot_line_count: { mean: 2, min: 1, max: 3, median: 2, std: expect.closeTo(Math.sqrt(2 / 3), 9) as number },
    cot_word_count: { mean: 14 / 3, min: 1, max: 9, median: 4 },
    rendering: { can_render_ratio: 1, sampled_count: 3 },
    estimated_lines: { mean: 1, max: 1 },
    strip_width: { max: 1300 },
    vision_tokens: { exact: { max: 41 }, reference: { max: 110 }, reference_too_wide: 0 },
    empty_chains: 0,
    skipped: { count: 0, rows: [] },
  });
  expect(JSON.parse(await text("stats.json"))).toEqual(JSON.parse(JSON.stringify(statistics)));
  expect(await text("stats.json")).toMatch(/^\{\n {2}"total_samples": 3,\n/);
  expect((await rowsOf())[0]).toEqual({
    ...chain(3, sprints),
    cot_char_length: 71,
    cot_word_count: 9,
    can_render_completely: true,
    estimated_lines: 1,
    vision_tokens: 41,
  });
  const report = (await text("report.txt")).split("\n");
  expect(report.slice(0, 22)).toEqual([
    "Data Preprocessing Report",
    "=".repeat(80),
    "",
    "Dataset: tiny",
    "Split: train",
    "Total samples: 3",
    "",
    "Can render completely: 3/3 (100.0%)",
    "",
    "Character length distribution:",
    "  Mean: 27.0",
    "  Std: 31.3",
    "  Min: 1",
    "  Max: 71",
    "  Median: 9.0",
    "",
    "Estimated line count distribution:",
    "  Mean: 1.0",
    "  Median: 1.0",
    "  Max: 1",
    "",
    "Word count distribution:",
  ]);
  expect(report.slice(-3)).toEqual(["", "=".repeat(80), ""]);
  expect(files).toEqual(
    ["stats.json", "report.txt", "processed.jsonl"].map((name) => join(folder, `tiny_train_${name}`)),
  );
});

test("what is written is read again, ids and empty chains included", async () => {
  const samples = [{ ...chain(1, "x"), id: "chal-1" }, chain(12, ""), chain(5, "日本\nעברית")];
  expect((await run(samples)).statistics.empty_chains).toBe(1);
  expect((await readDataset(join(folder, "tiny_train_processed.jsonl"))).samples).toEqual(samples);
});

test("by the reference's encoding short chains have two rows, and long ones none", async () => {
  const { statistics } = await run([chain(0, sprints), chain(1, "word ".repeat(200))], { encoding: "reference" });
  expect(statistics.rendering).toEqual({ can_render_ratio: 0.5, sampled_count: 2 });
  expect(statistics.vision_tokens.reference_too_wide).toBe(1);
  const rows = await rowsOf();
  expect(rows.map((row) => [row["can_render_completely"], row["estimated_lines"], row["vision_tokens"]])).toEqual([
    [true, 2, 110],
    [false, 0, null],
  ]);
  expect(await text("report.txt")).toContain("Can render completely: 1/2 (50.0%)");
});

test("the ratio is of the first 1,000 rows, the report of all", async () => {
  const samples = Array.from({ length: 1002 }, (_, i) => chain(i, i % 1001 > 0 ? "x" : "word ".repeat(200)));
  const { statistics } = await run(samples, { encoding: "reference" });
  expect(statistics.rendering).toEqual({ can_render_ratio: 0.999, sampled_count: 1000 });
  expect(await text("report.txt")).toContain("Can render completely: 1000/1002 (99.8%)");
});

test("rows that are too long are named, or left out and counted; so are those whose answer would be cut off", async () => {
  const { prompting } = withModel;
  const samples = [
    chain(0, "x"),
    { ...chain(1, "y"), question: "long ".repeat(80) },
    { ...chain(2, "z"), answer: "9".repeat(150) },
  ];
  const first = await run(samples, withModel);
  const lengths = first.statistics.text_tokens!.sequence;
  expect(first.statistics.text_tokens!.answer.min).toBe(prompting!.tokenizer.encode("### 7").length + 2);
  const [row] = await rowsOf();
  const { question, answer } = first.statistics.text_tokens!;
  expect(lengths.min).toBe(question.min + (row!["vision_tokens"] as number) + answer.min);
  const limited = { ...withModel, maxLength: lengths.min };
  const error = await run(samples, limited).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DatasetError);
  expect((error as Error).message).toMatch(
    /2 of 3 rows cannot be trained on .*\n {2}row with the id 1: it is \d+ tokens long, \d+ at most; nothing would be left of its answer.*\n {2}row with the id 2: it is \d+ tokens long, \d+ at most$/,
  );
  expect((await run(samples, { ...limited, onBadRow: "skip" })).statistics.skipped).toMatchObject({ count: 2 });
  expect((await rowsOf()).map((row) => row["id"])).toEqual([0]);
  await expect(run(samples, { maxLength: 9 })).rejects.toThrow(UsageError);
  await expect(run([chain(0, "x".repeat(1_000_001))], { onBadRow: "skip" })).rejects.toThrow("cannot be drawn");
});

test("a work that fails leaves what was there, and nothing else", async () => {
  await writeFile(join(folder, "tiny_train_stats.json"), "before");
  await expect(run([chain(0, "x"), chain(1, "x".repeat(1_000_001))], { preview: 1 })).rejects.toThrow(DatasetError);
  expect(await readdir(folder)).toEqual(["tiny_train_stats.json"]);
  expect(await text("stats.json")).toBe("before");
  await mkdir(join(folder, "tiny_train_processed.jsonl")); // what cannot be replaced, so that the last step fails
  await expect(run([chain(0, "x")])).rejects.toThrow();
  expect((await readdir(folder)).filter((name) => name.endsWith(".part"))).toEqual([]);
});

test("pictures are numbered by row, up to a number", async () => {
  const { pictures } = await run([chain(7, sprints), chain(8, "y"), chain(9, "z")], { pictures: 2 });
  expect(pictures).toBe(2);
  expect((await rowsOf()).map((row) => row["rendered_image_path"])).toEqual([
    "rendered_images/tiny/train_00000.png",
    "rendered_images/tiny/train_00001.png",
    undefined,
  ]);
  const png = PNG.sync.read(await readFile(join(folder, "rendered_images/tiny/train_00000.png")));
  expect([png.width, png.height]).toEqual([1300, 32]);
});

test.for(["../up", "", ".hidden", "-f", "a/b", "a\nb", "a\0b", "ü".repeat(51)])("%j names no files", async (name) => {
  await expect(run([chain(0, "x")], { dataset: name })).rejects.toThrow(UsageError);
  await expect(run([chain(0, "x")], { split: name })).rejects.toThrow(UsageError);
  expect(await readdir(folder)).toEqual([]);
});

const scripts = [
  "latin é ß ﬁ",
  "Ελληνικά",
  "кириллица",
  "עברית שלום",
  "العربية مرحبا",
  "हिन्दी नमस्ते",
  "ไทย สวัสดี",
  "中文 漢字",
  "日本語 ひらがな",
  "한국어",
  "ქართული",
  "አማርኛ",
  "👩‍👩‍👧‍👦 🇯🇵 😀",
  "\0\u0001\u001b[31m\u007f\u0085\u202e\u2066abc",
  "e\u0301\u0301\u0301 \u200d\u200b\ufeff",
  " ",
  "",
];

test("12 scripts, emoji, both directions, controls and nothing: no crash, and a page", async () => {
  const samples = scripts.map((cot, i) => ({ ...chain(i, cot), question: cot.trim() || "?" }));
  const { statistics } = await run(samples, { ...withModel, preview: samples.length, pictures: samples.length });
  expect(statistics.total_samples).toBe(samples.length);
  expect(statistics.missing_characters.rows).toBeGreaterThan(4);
  expect((await readdir(join(folder, "rendered_images/tiny"))).length).toBe(samples.length);
  expect((await text("report.html")).length).toBeLessThan(2_000_000);
  expect((await rowsOf()).map((row) => row["cot"])).toEqual(samples.map(({ cot }) => cot));
});

test("a page of 200 rows of markup stays small, and more are refused", async () => {
  const long = "<&'\"> 日本 ".repeat(300);
  const samples = Array.from({ length: 200 }, (_, i) => ({
    id: `${long}${i}`,
    question: long,
    cot: long,
    answer: long,
  }));
  await run(samples, { preview: 200, onBadRow: "skip" });
  expect((await readFile(join(folder, "tiny_train_report.html"))).length).toBeLessThan(2_000_000);
  await expect(run(samples, { preview: 201 })).rejects.toThrow("200 rows in full at most, not 201");
});

test("a chain of 100,000 characters is one more row; the page shows its beginning", async () => {
  const { statistics } = await run([chain(0, "1 + 2 = 3, ".repeat(9091))], { preview: 0 });
  expect(statistics.cot_char_length.max).toBe(100_001);
  expect(statistics.vision_tokens.exact.max).toBe(Math.round(statistics.strip_width.max / 32));
  const page = await text("report.html");
  expect(page.length).toBeLessThan(2_000_000);
  expect(page.includes("Its first 6,400 pixels of 9")).toBe(true);
});
