/** What a newcomer gets wrong, and what is said to it: `test/mistakes.json` holds each command, its exit code and its message. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../test/tools/run-cli.ts";

interface Mistake {
  readonly what: string;
  /** `$DIR` is a folder of files made here, `$MODEL` a model's folder. */
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly code: number;
  /** The last lines on stderr, `$DIR` and `$MODEL` for the folders; `…` stands for any text. */
  readonly message: string;
}

const mistakes = JSON.parse(readFileSync(resolve(import.meta.dirname, "../test/mistakes.json"), "utf8")) as Mistake[];
const model = resolve(import.meta.dirname, "../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-mistakes-"));
afterAll(() => rmSync(folder, { recursive: true }));

beforeAll(() => {
  const row = { question: "What is 1 + 1?", cot: "1 + 1 = 2.", answer: "2" };
  const files: Record<string, string> = {
    "empty.jsonl": "",
    "good.jsonl": `${JSON.stringify(row)}\n`,
    "torn.jsonl": `${JSON.stringify(row)}\n{"question": "Wh\n`,
    "no-answer.jsonl": `${JSON.stringify({ question: "What?", cot: "So." })}\n`,
    "blank-question.jsonl": `${JSON.stringify({ ...row, question: "" })}\n`,
    "other-fields.jsonl": `${JSON.stringify({ prompt: "What?", reply: "So." })}\n`,
    "data.xlsx": "x",
    "misspelt.yaml": "optimizer:\n  lr: 1e-4\ntraining:\n  batchsize: 4\n",
    "wrong-type.yaml": "training:\n  batch_size: many\n",
    "no-yaml.yaml": "training: [1\n",
    "a-file": "",
    "font.ttf": "no font",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  mkdirSync(join(folder, "empty-folder"));
  mkdirSync(join(folder, "stage1", "checkpoints"), { recursive: true });
  writeFileSync(join(folder, "stage1", "run.json"), "{}");
  writeFileSync(join(folder, "stage1", "config.yaml"), "optimzer: {}\n");
  const without = (name: string, ...left: string[]): void => {
    const to = join(folder, name);
    cpSync(model, to, {
      recursive: true,
      filter: (from) => !from.includes("golden/qwen3vl_tiny/golden") && !from.includes("sharded"),
    });
    for (const file of left) rmSync(join(to, file));
  };
  without("no-config", "config.json");
  without("no-weights", "model.safetensors");
  without("no-tokenizer", "tokenizer.json");
  without("no-template", "chat_template.json");
  const settings = join(folder, "no-template", "tokenizer_config.json");
  const { chat_template: _, ...others } = JSON.parse(readFileSync(settings, "utf8")) as Record<string, unknown>;
  writeFileSync(settings, JSON.stringify(others));
  without("no-processor", "preprocessor_config.json");
  without("broken-weights");
  writeFileSync(join(folder, "broken-weights", "model.safetensors"), "short");
});

/** Runs a command in this process, and in its environment. */
async function runMistake({ args, environment = {} }: Mistake) {
  const before = { ...process.env };
  Object.assign(process.env, environment);
  try {
    return await run(...args.map((arg) => arg.replaceAll("$DIR", folder).replaceAll("$MODEL", model)));
  } finally {
    for (const name of Object.keys(environment)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

/** What differs from run to run. */
const plain = (text: string): string => text.replaceAll(folder, "$DIR").replaceAll(model, "$MODEL");

test("there are forty", () => {
  expect(mistakes.length).toBeGreaterThanOrEqual(40);
  expect(new Set(mistakes.map(({ what }) => what)).size).toBe(mistakes.length);
});

/** What training refuses, its plan refuses in the same words. */
const planned = mistakes
  .filter(({ args }) => args[0] === "train")
  .map((mistake) => ({
    ...mistake,
    what: `${mistake.what}, with --dry-run`,
    args: ["train", "--dry-run", ...mistake.args.slice(1)],
  }));

test.for([...mistakes, ...planned])("$what", async (mistake) => {
  const { status, stdout, stderr } = await runMistake(mistake);
  expect(stdout).toBe("");
  expect(stderr).not.toMatch(/\n {4}at /);
  expect(stderr).not.toContain("\u001b");
  const said = plain(stderr);
  const parts = mistake.message.split("…");
  let at = 0;
  for (const part of parts) {
    const found = said.indexOf(part, at);
    if (found < 0) expect(`${status}: ${said}`).toBe(`${mistake.code}: ${mistake.message}`);
    at = found + part.length;
  }
  expect(status, said).toBe(mistake.code);
});
