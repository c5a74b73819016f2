import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { run as runCommand } from "../../test/tools/run-cli.ts";

const folder = mkdtempSync(join(tmpdir(), "rot-config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

const run = (...args: readonly string[]) => runCommand("config", ...args);

test("keys lists every key with its default", async () => {
  const { stdout } = await run("keys");
  expect(stdout).toContain("optimizer.lr = 0.00002\n    peak learning rate\n");
  const keys = JSON.parse((await run("keys", "--json")).stdout) as { path: string }[];
  expect(keys.map(({ path }) => path)).toContain("lora.target_modules");
});

test("what show prints is a file that shows the same", async () => {
  const first = await run("show", file("some.yaml", "optimizer: {lr: 1e-4}\n"));
  expect(first.stdout).toContain("lr: 0.0001");
  const second = await run("show", file("all.yaml", first.stdout));
  expect(second).toEqual({ status: 0, stdout: first.stdout, stderr: "" });
});

test("validate says what is wrong, and where", async () => {
  expect(await run("validate", file("good.yaml", "seed: 3\n"))).toMatchObject({ status: 0 });
  const bad = file("bad.yaml", "sed: 3\n");
  expect(await run("validate", bad)).toMatchObject({
    status: 2,
    stdout: "",
    stderr: `${bad}:1:1: there is no key "sed"; did you mean "seed"?`,
  });
  expect((await run("validate", join(folder, "none.yaml"))).status).toBe(2);
});

test("schema is a JSON Schema with descriptions, without required keys", async () => {
  const schema = JSON.parse((await run("schema")).stdout) as Record<string, unknown>;
  expect(schema).toMatchObject({
    type: "object",
    additionalProperties: false,
    properties: { seed: { description: expect.any(String), default: 0 } },
  });
  expect(schema["required"]).toBeUndefined();
});
