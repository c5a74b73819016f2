import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { exitCodeOf } from "../exit-codes.ts";
import { program } from "../program.ts";

const tiny = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-init-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function run(...args: string[]) {
  let [stdout, stderr, code] = ["", "", 0];
  const output = { out: (text: string) => (stdout += text), err: (text: string) => (stderr += text), terminal: false };
  try {
    await program(output).parseAsync(["init", ...args], { from: "user" });
  } catch (error) {
    code = exitCodeOf(error);
    stderr += (error as Error).message;
  }
  return { code, stdout, stderr };
}

test("the same seed writes the same folder; without a tokenizer it says what is missing", async () => {
  const weights: string[] = [];
  for (const [name, seed] of Object.entries({ a: "3", b: "3", c: "4" })) {
    const { code, stdout, stderr } = await run(join(folder, name), "--seed", seed);
    expect(stdout).toMatch(/: tiny, [\d,]+ random parameters in bf16\n$/);
    expect(stderr).toMatch(/it has no tokenizer/);
    expect(code).toBe(0);
    weights.push(readFileSync(join(folder, name, "model.safetensors"), "base64"));
  }
  expect(weights[1]).toBe(weights[0]);
  expect(weights[2]).not.toBe(weights[0]);
});

test("with --tokenizer the files around the weights come along", async () => {
  const { stderr } = await run(join(folder, "whole"), "--tokenizer", tiny, "--dtype", "f32");
  expect(stderr).not.toMatch(/it has no/);
  expect(await readdir(join(folder, "whole"))).toEqual(
    expect.arrayContaining(["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]),
  );
});

test("a folder that is not empty, an unknown preset and a folder without a tokenizer are refused", async () => {
  expect(await run(tiny)).toMatchObject({ code: 2, stderr: expect.stringContaining("holds") });
  expect(await run(join(folder, "x"), "--preset", "3b")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("2b"),
  });
  expect(await run(join(folder, "x"), "--tokenizer", folder)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("tokenizer.json"),
  });
});
