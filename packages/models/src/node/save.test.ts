import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Tensor, tensor, UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterEach, beforeEach } from "vitest";
import { presets } from "../presets.ts";
import { parseQwen3VlConfig } from "../qwen3-vl/config.ts";
import { qwen3Vl } from "../qwen3-vl/qwen3-vl.ts";
import { recordArchitecture } from "../weights/architecture.ts";
import { randomInit } from "../weights/init.ts";
import { readBytes } from "../weights/pieces.ts";
import { dealShards, writeIndex } from "../weights/shards.ts";
import { loadFolder, openCheckpoint, readJson } from "./load.ts";
import { savePretrained, writeRandomCheckpoint } from "./save.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-save-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sources = (sizes: Record<string, number>) =>
  Object.entries(sizes).map(([name, bytes]) => ({
    name,
    dtype: "U8" as const,
    shape: [bytes],
    data: new Uint8Array(bytes),
  }));
const dealt = (sizes: Record<string, number>, most: number): string[] =>
  dealShards(sources(sizes), most).map(({ file, tensors }) => `${file}: ${tensors.map(({ name }) => name).join(" ")}`);

test("shards are filled in order; a tensor larger than a shard gets its own", () => {
  expect(dealt({ a: 5, b: 5 }, 10)).toEqual(["model.safetensors: a b"]);
  expect(dealt({}, 10)).toEqual(["model.safetensors: "]);
  expect(dealt({ a: 20 }, 10)).toEqual(["model.safetensors: a"]);
  expect(dealt({ a: 5, b: 5, c: 1 }, 10)).toEqual([
    "model-00001-of-00002.safetensors: a b",
    "model-00002-of-00002.safetensors: c",
  ]);
  expect(dealt({ a: 5, big: 11, b: 5, c: 6 }, 10)).toEqual([
    "model-00001-of-00003.safetensors: big",
    "model-00002-of-00003.safetensors: a b",
    "model-00003-of-00003.safetensors: c",
  ]);
});

test("the index is sorted and counts bytes and parameters", () => {
  expect(JSON.parse(writeIndex(dealShards(sources({ b: 5, a: 6 }), 10)))).toEqual({
    metadata: { total_parameters: 11, total_size: 11 },
    weight_map: { a: "model-00002-of-00002.safetensors", b: "model-00001-of-00002.safetensors" },
  });
});

const config = presets.tiny;
const small = { ...config, text_config: { ...config.text_config, vocab_size: 256 } };
const architecture = recordArchitecture((w) => qwen3Vl(w, parseQwen3VlConfig(small)));

test("what is saved in shards is loaded again, bit by bit, and nothing else is left", async ({ device }) => {
  const weights = randomInit(architecture, device, { seed: 4 });
  const target = join(folder, "deep", "model");
  await savePretrained(target, weights, { config: small, maxShardBytes: 100_000 });
  const files = (await readdir(target)).toSorted();
  expect(files.length).toBeGreaterThan(5);
  expect(files.slice(0, 2)).toEqual([
    "config.json",
    `model-00001-of-${String(files.length - 2).padStart(5, "0")}.safetensors`,
  ]);
  expect(files.at(-1)).toBe("model.safetensors.index.json");
  expect(await readdir(join(folder, "deep"))).toEqual(["model"]);
  expect(await readJson(join(target, "config.json"))).toEqual(small);

  const loaded = await loadFolder(target, architecture, device);
  expect([...loaded.keys()]).toEqual([...weights.keys()]);
  for (const [name, value] of loaded) {
    expect(Buffer.compare(await readBytes(value), await readBytes(weights.get(name) as Tensor)), name).toBe(0);
  }
  await using opened = await openCheckpoint(target);
  for (const { file } of opened.tensors.values()) expect([...file.metadata]).toEqual([["format", "pt"]]);
});

test("random weights are written as randomInit makes them, with the files of another folder", async ({ device }) => {
  await writeFile(join(folder, "tokenizer.json"), "{}");
  await writeFile(join(folder, "secret.txt"), "not copied");
  const target = join(folder, "model");
  await writeRandomCheckpoint(target, architecture, device, { config: small, seed: 4, like: folder });
  expect((await readdir(target)).toSorted()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  const want = randomInit(architecture, device, { seed: 4 });
  for (const [name, value] of await loadFolder(target, architecture, device)) {
    expect(Buffer.compare(await readBytes(value), await readBytes(want.get(name) as Tensor)), name).toBe(0);
  }
});

test("a folder that holds something is replaced only when asked, and whole", async ({ device }) => {
  const target = join(folder, "model");
  await mkdir(target);
  const weights = new Map([["a", tensor(device, [1])]]);
  await savePretrained(target, weights, { config: {} });
  await writeFile(join(target, "stale.safetensors"), "");
  await expect(savePretrained(target, weights, { config: {} })).rejects.toThrow(UsageError);
  await savePretrained(target, weights, { config: { new: 1 }, overwrite: true });
  expect((await readdir(target)).toSorted()).toEqual(["config.json", "model.safetensors"]);
  expect(await readdir(folder)).toEqual(["model"]);
});

test("when a tensor cannot be read nothing is left, and what was there still stands", async ({ device }) => {
  const target = join(folder, "model");
  const a = tensor(device, [1]);
  await savePretrained(target, new Map([["a", a]]), { config: { old: 1 } });
  a.dispose();
  await expect(savePretrained(target, new Map([["a", a]]), { config: {}, overwrite: true })).rejects.toThrow(
    "disposed",
  );
  expect(await readdir(folder)).toEqual(["model"]);
  expect(await readFile(join(target, "config.json"), "utf8")).toBe('{\n  "old": 1\n}\n');
});
