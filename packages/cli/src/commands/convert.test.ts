import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { run, spawn } from "../../test/tools/run-cli.ts";

const golden = resolve(import.meta.dirname, "../../../rot/test/golden/pt_checkpoints");
const folder = mkdtempSync(join(tmpdir(), "rot-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

const checkpoint = join(golden, "global_step5/mp_rank_00_model_states.pt");
const converted = join(folder, "st");
const back = join(folder, "back.pt");

test("a checkpoint converts there and back, and inspect finds no difference", async () => {
  const to = await run(
    "convert",
    "to-safetensors",
    "--input",
    checkpoint,
    "--output",
    converted,
    "--max_shard_size",
    "20KiB",
    "--model_name",
    "M",
    "--verbose",
  );
  expect(to).toMatchObject({ status: 0 });
  expect(to.stdout).toMatch(/^\d+ tensors, [\d,]+ parameters, [\d,]+ bytes\n\d+ tied names are recorded/);
  expect(to.stderr).toContain("llm_lm_head.weight is base_model.model.model.language_model.embed_tokens.weight\n");
  expect(to.stderr).toMatch(/convert: .* 100 %/);
  for (const control of ["\r", "\u001b"]) expect(to.stderr).not.toContain(control);
  expect(readdirSync(converted)).toContain("M.safetensors.index.json");

  const from = await run(
    "convert",
    "from-safetensors",
    "--input",
    converted,
    "--output",
    back,
    "--model_name",
    "M",
    "--format",
    "state_dict",
    "--restore_weight_tying",
    "--json",
  );
  expect(from).toMatchObject({ status: 0 });
  expect(JSON.parse(from.stdout)).toMatchObject({ file: back, different: [] });

  const diff = await run("inspect", checkpoint, "--diff", back, "--clean_keys", "--values");
  expect(diff).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^equal in names, shapes, dtypes and values: \d+ tensors\n$/),
  });
  expect(await run("inspect", checkpoint, "--diff", back, "--json")).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("onlyInA"),
  });
});

test("inspect prints tensors, values and globals, and JSON of the same", async () => {
  const file = join(golden, "stage1/special_tokens.bin");
  const text = await run("inspect", file);
  expect(text.status).toBe(0);
  expect(text.stdout).toMatch(/img_begin_emb {2}BF16 {2}\[\d+\]\n/);
  expect(text.stdout).toContain("value img_begin_token_id: ");
  const json = JSON.parse((await run("inspect", file, "--json")).stdout) as Record<string, unknown>;
  expect(json).toMatchObject({
    kind: "torch zip",
    globals: expect.arrayContaining(["torch._utils._rebuild_tensor_v2"]),
  });
});

test("a hostile file exits with 3 and the reason; its globals can be looked at", async () => {
  const file = join(golden, "refuse/zip_os_system.pt");
  expect(spawn("inspect", file)).toMatchObject({ status: 3, stderr: expect.stringContaining('"posix.system"') });
  expect(await run("convert", "to-safetensors", "--input", file, "--output", join(folder, "none"))).toMatchObject({
    status: 3,
  });
  expect(await run("inspect", file, "--list-globals")).toMatchObject({ status: 0, stdout: "REFUSED  posix.system\n" });
});

test("wrong flags exit with 2", async () => {
  for (const args of [
    ["convert", "to-safetensors", "--input", checkpoint],
    ["convert", "to-safetensors", "--input", checkpoint, "--output", join(folder, "x"), "--max_shard_size", "5XB"],
    ["convert", "from-safetensors", "--input", folder, "--output", back, "--format", "other"],
    ["convert", "from-safetensors", "--input", folder, "--output", back],
    ["inspect", checkpoint, "--values"],
  ]) {
    expect((await run(...args)).status, args.join(" ")).toBe(2);
  }
});
