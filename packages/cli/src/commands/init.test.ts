import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { run as runCommand } from "../../test/tools/run-cli.ts";

const tiny = resolve(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-init-"));
afterAll(() => rmSync(folder, { recursive: true }));

const run = (...args: readonly string[]) => runCommand("init", ...args);

test("the same seed writes the same folder; without a tokenizer it says what is missing", async () => {
  const weights: string[] = [];
  for (const [name, seed] of Object.entries({ a: "3", b: "3", c: "4" })) {
    const { status, stdout, stderr } = await run(join(folder, name), "--seed", seed);
    expect(stdout).toMatch(/: tiny, [\d,]+ random parameters in bf16\n$/);
    expect(stderr).toMatch(/it has no tokenizer/);
    expect(status).toBe(0);
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
  expect(await run(tiny)).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/holds \d+ files already: name a new or an empty one$/),
  });
  expect(await run(join(tiny, "config.json"))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("config.json cannot be a model's folder: ENOTDIR"),
  });
  expect(await run(join(folder, "x"), "--preset", "3b")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("2b"),
  });
  expect(await run(join(folder, "x"), "--tokenizer", folder)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("tokenizer.json"),
  });
});
