import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { run as runCommand, spawn } from "../../test/tools/run-cli.ts";

const root = mkdtempSync(join(tmpdir(), "rot preprocess "));
afterAll(() => rmSync(root, { recursive: true }));
let folder = root;
beforeEach(() => (folder = mkdtempSync(join(root, "case-"))));
const model = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");

const run = (...args: readonly string[]) => runCommand("preprocess", "--output_dir", join(folder, "out"), ...args);
const write = (name: string, content: string): string => {
  const path = join(folder, name);
  mkdirSync(resolve(path, ".."), { recursive: true });
  writeFileSync(path, content);
  return path;
};
const read = (name: string): string => readFileSync(join(folder, "out", name), "utf8");
const made = (): string[] => readdirSync(join(folder, "out")).toSorted();
const gsm8k = (answer: string): string => `${JSON.stringify({ question: "Q?", answer })}\n`;

test("a user preprocesses GSM8K with the reference's flags", () => {
  write("data/gsm8k/test.jsonl", gsm8k("3*3=<<3*3=9>>9 times\nthen 9\n#### 9") + gsm8k("8\n#### 8"));
  const flags = [
    "--dataset",
    "gsm8k",
    "--split",
    "test",
    "--data_root",
    join(folder, "data"),
    "--output_dir",
    join(folder, "out"),
  ];
  const more = ["--save_images", "--max_save_images", "1", "--image_size", "512", "--font_size", "16"];
  const result = spawn("preprocess", ...flags, ...more);
  expect(result.status).toBe(0);
  const names = [
    "gsm8k_test_stats.json",
    "gsm8k_test_report.txt",
    "gsm8k_test_report.html",
    "gsm8k_test_processed.jsonl",
  ];
  const paths = names.map((name) => `${join(folder, "out", name)}\n`).join("");
  expect(result.stdout).toMatch(/^test: 2 rows; latents: mean \d+\.\d, median [\d.]+, 95 % \d+\.\d, max \d+\n/);
  expect(result.stdout).toContain(paths);
  expect(result.stdout).toContain("1 pictures in ");
  expect(result.stderr).toMatch(/--image_size has no effect.*\npreprocess test: 2 rows of 2 rows · 100 % .*\n$/);
  for (const code of ["\r", "\u001b"]) expect(result.stderr).not.toContain(code);
  expect(made()).toEqual([...names, "rendered_images"].toSorted());
  expect(JSON.parse(read("gsm8k_test_processed.jsonl").split("\n")[0]!)).toMatchObject({
    id: 0,
    cot: "3*3=<<3*3=9>>9 times\nthen 9",
    answer: "9",
    rendered_image_path: "rendered_images/gsm8k/test_00000.png",
  });
});

test("--font_size, --height and --padding reach the strips, --strip-calculator the chains", async () => {
  const input = write("a.jsonl", gsm8k("3*3=<<3*3=9>>9 times #### 9"));
  const stats = async (...flags: string[]) => {
    const { status, stdout } = await run("-i", input, "--json", "--no-html", ...flags);
    expect(status).toBe(0);
    return JSON.parse(stdout) as {
      strip_width: { max: number };
      vision_tokens: { exact: { max: number } };
      estimated_lines: { max: number };
    };
  };
  const base = await stats();
  expect(made()).toEqual(["a_train_processed.jsonl", "a_train_report.txt", "a_train_stats.json"]);
  expect((await stats("--font_size", "16")).strip_width.max).toBeLessThan(base.strip_width.max);
  expect((await stats("--padding", "20")).strip_width.max).toBe(base.strip_width.max + 32);
  expect((await stats("--height", "64")).estimated_lines.max).toBe(2);
  await stats("--strip-calculator");
  expect(read("a_train_processed.jsonl")).toContain('"cot":"3*3=9 times"');
});

test("synthetic rows need no file, are those of the seed, differ by split, and can be split", async () => {
  expect(await run("--dataset", "synthetic", "--count", "40", "--validation-share", "0.2", "--no-html")).toMatchObject({
    status: 0,
  });
  const rows = (name: string): string[] => read(name).trimEnd().split("\n");
  const [train, validation] = [rows("synthetic_train_processed.jsonl"), rows("synthetic_validation_processed.jsonl")];
  expect(train.length + validation.length).toBe(40);
  const ids = [...train, ...validation].map((row) => (JSON.parse(row) as { id: number }).id);
  expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
  await run("--dataset", "synthetic", "--count", "40", "--no-html");
  expect(rows("synthetic_train_processed.jsonl")).toEqual(expect.arrayContaining(train));
  await run("--dataset", "synthetic", "--count", "40", "--split", "test", "--no-html");
  expect(rows("synthetic_test_processed.jsonl")[0]).not.toBe(rows("synthetic_train_processed.jsonl")[0]);
});

test("SVAMP's one file is found; rows of one's own are mapped", async () => {
  const row = { ID: "chal-1", Body: "He has 5", Question: "How many?", Equation: "( 5.0 - 2.0 )", Answer: 3 };
  write("svamp/SVAMP.json", JSON.stringify([row]));
  expect(await run("--dataset", "svamp", "--data_root", folder)).toMatchObject({ status: 0 });
  expect(read("svamp_train_processed.jsonl")).toContain('"id":"chal-1"');
  const own = write("my rows.csv", 'p,r,t\n"1+1?","so 1+1=2",2\n');
  expect(await run("-i", own, "--map", "question=p,cot=r,answer=t", "--dataset", "own")).toMatchObject({ status: 0 });
  expect(read("own_train_processed.jsonl")).toContain('"cot":"so 1+1=2"');
  expect(await run("-i", own, "--map", "question=p,cot=r,answer=t")).toMatchObject({ status: 0 });
  expect(made()).toContain("my-rows_train_processed.jsonl");
});

test("with a model tokens are counted, and rows that are too long are left out by name", async () => {
  const input = write("a.jsonl", gsm8k("x #### 1") + gsm8k(`${"word ".repeat(100)} #### 2`));
  const { status, stdout, stderr } = await run(
    "-i",
    input,
    "--model",
    model,
    "--max-length",
    "90",
    "--on-bad-row",
    "skip",
    "--json",
  );
  expect(status).toBe(0);
  expect(stderr).toMatch(
    /1 rows are left out:\n {2}row with the id 1: it is \d+ tokens long, 90 at most; nothing would be left/,
  );
  expect(JSON.parse(stdout)).toMatchObject({
    total_samples: 1,
    text_tokens: { sequence: { max: expect.any(Number) as number } },
    skipped: { count: 1 },
  });
  expect(read("a_train_report.html")).toContain("&lt;img_begin&gt;");
  expect(await run("-i", input, "--model", model, "--max-length", "90")).toMatchObject({
    status: 3,
    stderr: expect.stringContaining("--on-bad-row skip") as string,
  });
});

test("rows that the reference would refuse are said", async () => {
  const input = write("a.jsonl", gsm8k(`${"word ".repeat(200)} #### 2`) + gsm8k("x #### 1"));
  const { status, stderr } = await run("-i", input, "--encoding", "reference");
  expect([status, stderr]).toEqual([
    0,
    expect.stringContaining("1 rows are kept that the reference's encoding refuses"),
  ]);
  expect((await run("-i", input)).stderr).not.toContain("refuses");
});

test("bad rows end it with their lines, or are left out and counted", async () => {
  const input = write("a.jsonl", `${gsm8k("x #### 1")}{"question": "Q"}\nbroken\n`);
  const failed = await run("-i", input);
  expect(failed).toMatchObject({ status: 3, stdout: "" });
  expect(failed.stderr).toMatch(
    /2 of 3 rows cannot be used .*--on-bad-row skip\):\n {2}a\.jsonl:2: .*\n {2}a\.jsonl:3: the line is not JSON/,
  );
  expect(() => made()).toThrow("ENOENT");
  const { status, stderr } = await run("-i", input, "--on-bad-row", "skip");
  expect([status, stderr]).toEqual([0, expect.stringMatching(/2 rows are left out:\n {2}a\.jsonl:2/)]);
});

test.for([
  [[], 2, "where is gsm8k? Add --data_root"],
  [["--data_root", "none"], 3, "cannot be read"],
  [["--data_root", root], 3, "gsm8k cannot be read"],
  [["-i", "none.jsonl"], 3, "there is no such file"],
  [["-i", "none.bin"], 3, "rows are read from"],
  [["-i", "x.jsonl", "--map", "question=q"], 2, "which field is the cot"],
  [["-i", "x.jsonl", "--format", "alpaca"], 2, "gsm8k-aug"],
  [["-i", "x.jsonl", "--on-bad-row", "ignore"], 2, "fail, skip"],
  [["--dataset", "synthetic", "--count", "0"], 2, "from 1"],
  [["--dataset", "synthetic", "--count", "2", "--validation-share", "1"], 2, "up to, without, 1"],
  [["--dataset", "synthetic", "--count", "1", "--validation-share", "0.5"], 2, "leaves one side empty"],
  [["--dataset", "synthetic", "--split", "../x"], 2, "cannot name files"],
  [["--dataset", "synthetic", "--max-length", "9"], 2, "--max-length counts tokens"],
  [["--dataset", "synthetic", "--model", "none"], 3, "none has no tokenizer.json"],
  [["--dataset", "synthetic", "--font_size", "2000"], 2, "fontSize is 2000"],
  [["--dataset", "synthetic", "--sort"], 2, "unknown option"],
] as const)("%j exits with %i", async ([args, status, message]) => {
  expect(await run(...args)).toMatchObject({ status, stderr: expect.stringContaining(message) as string });
});

test("a folder that cannot be made is said", async () => {
  write("out", "a file");
  const { status, stderr } = await run("--dataset", "synthetic", "--count", "1");
  expect([status, stderr]).toEqual([3, expect.stringMatching(/EEXIST|ENOTDIR/)]);
});
