import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { run as runCommand } from "../../test/tools/run-cli.ts";
import type { Answer } from "../generate/answer.ts";

const tiny = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const root = mkdtempSync(join(tmpdir(), "rot-generate-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = root;
beforeEach(() => (folder = mkdtempSync(join(root, "case-"))));

const run = (...args: readonly string[]) => runCommand("generate", ...args);

const answers = (stdout: string): Answer[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);

/** A gray PNG. Its header may lie. */
function png(name: string, width: number, height: number, rows = height): string {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8;
  const pixels = Buffer.alloc(rows * (width + 1), 90);
  for (let y = 0; y < rows; y++) pixels[y * (width + 1)] = 0;
  const file = join(folder, name);
  writeFileSync(
    file,
    Buffer.concat([
      Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
      chunk("IHDR", header),
      chunk("IDAT", deflateSync(pixels)),
      chunk("IEND", Buffer.alloc(0)),
    ]),
  );
  return file;
}

/** A copy of the tiny model without its golden data. */
function copied(): string {
  const to = join(folder, "model");
  cpSync(tiny, to, { recursive: true, filter: (from) => !/^\/(golden|sharded)/.test(from.slice(tiny.length)) });
  return to;
}

function edit(file: string, change: (json: Record<string, unknown>) => unknown): void {
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
}

test("an answer goes to stdout, its speed to stderr", async () => {
  const args = [
    "--model",
    tiny,
    "--prompt",
    "What is 7 x 8?",
    "--image",
    png("a.png", 64, 32),
    "--max_new_tokens",
    "6",
  ];
  const { status, stdout, stderr } = await run(...args);
  expect(stderr).toMatch(/\n6 tokens, the first after \d+\.\d\d s, then [\d.]+ tokens\/s\n$/);
  expect(status).toBe(0);
  const json = await run(...args, "--json");
  const [answer] = answers(json.stdout);
  expect(stdout).toBe(`${answer?.text}\n`);
  expect(answer).toMatchObject({ prompt: "What is 7 x 8?", images: [join(folder, "a.png")], finish: "length" });
  expect(answer?.ids).toHaveLength(6);
  expect(answer?.tokensPerSecond).toBeGreaterThan(0);
  expect(Object.hasOwn(answer ?? {}, "logProbs")).toBe(false);
});

test("a batch answers in order, alike at any batch size, and drawn alike", async () => {
  const file = join(folder, "questions.jsonl");
  png("a.png", 32, 64);
  const lines = [{ prompt: "one" }, { prompt: "two", images: ["a.png"] }, { prompt: "three", system: "Count." }];
  writeFileSync(file, lines.map((line) => JSON.stringify(line)).join("\r\n"));
  const args = [
    "--model",
    tiny,
    "--batch",
    file,
    "--max_new_tokens",
    "5",
    "--temperature",
    "1.5",
    "--seed",
    "4",
    "--json",
  ];
  const all = answers((await run(...args)).stdout);
  expect(all.map(({ prompt }) => prompt)).toEqual(["one", "two", "three"]);
  expect(all[1]?.images).toEqual([join(folder, "a.png")]);
  const two = answers((await run(...args, "--batch_size", "2")).stdout);
  expect(two.map(({ ids }) => ids)).toEqual(all.map(({ ids }) => ids));
  const plain = join(folder, "questions.txt");
  writeFileSync(plain, "one\ntwo\n");
  const { stdout, stderr } = await run(
    "--model",
    tiny,
    "--batch",
    plain,
    "--max_new_tokens",
    "2",
    "--system",
    "Count.",
  );
  expect(stdout).toMatch(/^\[1\] .*\n\[2\] .*\n$/s);
  expect(stderr).toContain("4 tokens, ");
});

test("--logprobs shows every step: the token, its log-probability and the likeliest", async () => {
  const { stdout } = await run("--model", tiny, "--prompt", "x", "--max_new_tokens", "4", "--json", "--logprobs", "5");
  const [{ ids, logProbs = [] } = { ids: [] }] = answers(stdout);
  expect(logProbs.map(({ id }) => id)).toEqual(ids);
  for (const { top, ...token } of logProbs) {
    expect(top).toHaveLength(5);
    expect(top[0]).toEqual(token);
    expect(top.map(({ logProb }) => logProb)).toEqual(top.map(({ logProb }) => logProb).toSorted((a, b) => b - a));
    expect(top.reduce((sum, { logProb }) => sum + Math.exp(logProb), 0)).toBeLessThanOrEqual(1);
  }
});

test("--stop ends an answer before the text, and an adapter changes it", async () => {
  const args = ["--model", tiny, "--prompt", "What is 7 x 8?", "--max_new_tokens", "8"];
  const { stdout } = await run(...args);
  const stop = stdout.slice(4, 7);
  const cut = await run(...args, "--stop", "never", stop);
  expect(cut.stdout).toBe(`${stdout.slice(0, stdout.indexOf(stop))}\n`);
  const adapter = resolve(tiny, "../peft/attention_r4");
  expect(existsSync(adapter)).toBe(true);
  expect((await run(...args, "--adapter-dir", adapter)).stdout).not.toBe(stdout);
});

test("random weights of a preset, seeded", async () => {
  const args = ["--model", tiny, "--random-init", "tiny", "--prompt", "x", "--image", png("a.png", 32, 32), "--json"];
  const short = ["--max_new_tokens", "3"];
  const [first] = answers((await run(...args, ...short)).stdout);
  expect(first?.ids).toHaveLength(3);
  expect(answers((await run(...args, ...short)).stdout)[0]?.ids).toEqual(first?.ids);
  expect(answers((await run(...args, ...short, "--seed", "1")).stdout)[0]?.ids).not.toEqual(first?.ids);
});

describe("what is wrong is named, with its exit status", () => {
  const usage: [string[], string][] = [
    [["--prompt", "x"], "--model"],
    [["--model", tiny], "give --prompt TEXT or --batch FILE"],
    [["--model", tiny, "--prompt", "x", "--batch", "y"], "give --prompt TEXT or --batch FILE"],
    [["--model", tiny, "--prompt", "x", "--logprobs", "2"], "--logprobs needs --json"],
    [["--model", tiny, "--prompt", "x", "--top_p", "2"], "from 0 to 1"],
    [["--model", tiny, "--prompt", "x", "--temperature", "hot"], "a number from 0 up"],
    [["--model", tiny, "--prompt", "x", "--max_new_tokens", "0"], "a whole number from 1 up"],
    [["--model", tiny, "--prompt", "x", "--dtype", "int4"], "Allowed choices are f32, f16, bf16"],
    [["--model", tiny, "--prompt", "x", "--random-init", "huge"], "Allowed choices are"],
    [["--model", tiny, "--prompt", "x", "--stop", ""], "a stop string is empty"],
  ];
  test.for(usage)("%j", async ([args, why]) => {
    const { status, stderr, stdout } = await run(...args);
    expect(stderr).toContain(why);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  });

  const bad: [what: string, make: () => string[], why: RegExp][] = [
    ["no folder", () => ["--model", join(folder, "none")], /--model: there is no .*none/],
    ["no weights", () => without("model.safetensors"), /holds neither model\.safetensors/],
    ["no tokenizer", () => without("tokenizer.json"), /has no tokenizer\.json/],
    ["no template", noTemplate, /no chat template/],
    ["no processor", () => without("preprocessor_config.json"), /has no preprocessor_config\.json/],
    ["a shard is missing", missingShard, /model-00002-of-00002\.safetensors: it is missing/],
    ["weights of whole numbers", wrongDtype, /is stored as I(16|32); a parameter is BF16, F16, F32 or F64/],
    [
      "another architecture",
      () => edited("config.json", (c) => ({ ...c, model_type: "llama" })),
      /config\.json: model_type is "llama"/,
    ],
    ["another tokenizer", () => edited("config.json", (c) => ({ ...c, image_token_id: 3 })), /they are of two models/],
    ["no special tokens", noSpecials, /tokenizer\.json has no token <\|image_pad\|>/],
    [
      "a long prompt",
      () => ["--model", tiny, "--prompt", "a ".repeat(200_000)],
      /the prompt has \d+ tokens; the model's context of \d+ leaves no room/,
    ],
    ["no picture", () => image(join(folder, "none.png")), /none\.png: there is no such file/],
    ["a folder for a picture", () => image(folder), /case-/],
    ["no picture file", () => image(join(tiny, "config.json")), /config\.json: this is no picture file we know/],
    [
      "a picture of 60000x60000",
      () => image(png("bomb.png", 60_000, 60_000, 1)),
      /bomb\.png: 60000x60000 is more than/,
    ],
    [
      "a picture 201 times as wide",
      () => image(png("wide.png", 2010, 10)),
      /wide\.png: .*aspect ratio must be smaller than 200/,
    ],
    ["no batch", () => ["--model", tiny, "--batch", join(folder, "none")], /none cannot be read/],
    ["a batch of no JSON", () => batch("a.jsonl", '{"prompt": "x"}\n{'), /a\.jsonl:2: it is not JSON/],
    ["a batch of other keys", () => batch("a.jsonl", '{"promt": "x"}'), /a\.jsonl:1: .*prom/s],
    ["an empty batch", () => batch("a.txt", ""), /a\.txt has no lines/],
    ["no adapter", () => ["--model", tiny, "--adapter-dir", folder], /adapter_config\.json: it is missing/],
  ];
  test.for(bad)("%s", async ([, make, why]) => {
    const args = make();
    const { status, stderr, stdout } = await run(
      ...args,
      ...(args.some((arg) => /^--(prompt|batch)$/.test(arg)) ? [] : ["--prompt", "x"]),
    );
    expect(stderr).toMatch(why);
    expect({ status, stdout }).toEqual({ status: 3, stdout: "" });
  });
});

const image = (file: string): string[] => ["--model", tiny, "--image", file];

function batch(name: string, content: string): string[] {
  writeFileSync(join(folder, name), content);
  return ["--model", tiny, "--batch", join(folder, name)];
}

function without(name: string): string[] {
  const model = copied();
  rmSync(join(model, name));
  return ["--model", model];
}

function edited(name: string, change: (json: Record<string, unknown>) => unknown): string[] {
  const model = copied();
  edit(join(model, name), change);
  return ["--model", model];
}

function missingShard(): string[] {
  const model = copied();
  rmSync(join(model, "model.safetensors"));
  const weight_map = { "model.visual.x": "model-00002-of-00002.safetensors" };
  writeFileSync(join(model, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  return ["--model", model];
}

function noTemplate(): string[] {
  const model = copied();
  rmSync(join(model, "chat_template.json"));
  edit(join(model, "tokenizer_config.json"), (config) => ({ ...config, chat_template: undefined }));
  return ["--model", model];
}

/** The first tensor of the weights says that it holds whole numbers. */
function wrongDtype(): string[] {
  const model = copied();
  const file = join(model, "model.safetensors");
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = bytes
    .toString("utf8", 8, 8 + length)
    .replace(/"(?:BF16|F32)"/, (dtype) => (dtype === '"F32"' ? '"I32"' : '"I16" '));
  bytes.write(header, 8, "utf8");
  writeFileSync(file, bytes);
  return ["--model", model];
}

function noSpecials(): string[] {
  const model = copied();
  const file = join(model, "tokenizer.json");
  writeFileSync(file, readFileSync(file, "utf8").replaceAll("<|image_pad|>", "<|other_pad|>"));
  return ["--model", model];
}
