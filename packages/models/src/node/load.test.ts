import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { afterEach, beforeEach, describe } from "vitest";
import { expect, test } from "@rot/tensor/testing";
import { recordArchitecture } from "../weights/architecture.ts";
import { WeightsError } from "../weights/error.ts";
import { loadFolder, openCheckpoint, readJson } from "./load.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-load-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const one = (name: string, value: number): TensorSource => {
  return { name, dtype: "F32", shape: [1], data: new Uint8Array(Float32Array.of(value).buffer) };
};
const architecture = recordArchitecture((w) => [w.get("a", [1]), w.get("b", [1])]);

const shard = (name: string, ...tensors: TensorSource[]) =>
  writeFileAtomically(join(folder, name), writeSafetensors(tensors));
const index = (json: unknown) => writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(json));

/** Two good shards: `a` in the first, `b` in the second. */
async function twoShards(): Promise<Record<string, unknown>> {
  await shard("model-00001-of-00002.safetensors", one("a", 1));
  await shard("model-00002-of-00002.safetensors", one("b", 2));
  return { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" };
}

/** What the error of opening the folder says. */
async function complaint(): Promise<string> {
  const error = await openCheckpoint(folder).then(
    (opened) => opened.close(),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(WeightsError);
  return (error as Error).message;
}

describe("names of shards that are no names of files beside the index", () => {
  const names: readonly [unknown, string][] = [
    ["../x.safetensors", "is a path"],
    ["a/../../x.safetensors", "is a path"],
    ["sub/x.safetensors", "is a path"],
    ["./model-00001-of-00002.safetensors", "is a path"],
    ["/etc/passwd", "is a path"],
    ["C:\\x.safetensors", "is a path"],
    ["C:x.safetensors", "is a path"],
    ["..\\x.safetensors", "is a path"],
    ["model.safetensors:stream", "is a path"],
    ["x\0.safetensors", "control character"],
    ["x\n.safetensors", "control character"],
    ["x\u007f.safetensors", "control character"],
    ["", "is not the name of a safetensors file"],
    [".", "is not the name"],
    ["..", "is not the name"],
    [".hidden.safetensors", "is not the name"],
    ["pytorch_model-00001-of-00002.bin", "is not the name"],
    [`${"x".repeat(255)}.safetensors`, "longer than 255 bytes"],
    [`${"é".repeat(125)}.safetensors`, "longer than 255 bytes"],
    [7, "is no text"],
    [null, "is no text"],
    [["model-00001-of-00002.safetensors"], "is no text"],
    [{ toString: 1 }, "is no text"],
  ];
  test.for(names)("%j", async ([name, why]) => {
    await index({ weight_map: { ...(await twoShards()), b: name } });
    const message = await complaint();
    expect(message).toContain(why);
    expect(message.length).toBeLessThan(400);
  });
});

describe("an index that is no index", () => {
  const bodies: readonly [unknown, string][] = [
    [{}, 'no "weight_map"'],
    [{ weight_map: [] }, 'no "weight_map"'],
    [{ weight_map: "x" }, 'no "weight_map"'],
    [{ weight_map: {} }, "names no tensor"],
    [[], 'no "weight_map"'],
    [null, 'no "weight_map"'],
  ];
  test.for(bodies)("%j", async ([body, why]) => {
    await index(body);
    expect(await complaint()).toContain(why);
  });
  test("not JSON, not UTF-8, nested deep", async () => {
    const path = join(folder, "model.safetensors.index.json");
    for (const content of ["{", Buffer.from([0x22, 0xff, 0x22]), "[".repeat(1e6)]) {
      await writeFile(path, content);
      expect(await complaint()).toContain("it is not JSON");
    }
  });
  test("one key is __proto__", async () => {
    const path = join(folder, "model.safetensors.index.json");
    await writeFile(path, '{"weight_map":{"__proto__":"model-00001-of-00002.safetensors"}}');
    await shard("model-00001-of-00002.safetensors", one("__proto__", 1));
    await using opened = await openCheckpoint(folder);
    expect([...opened.tensors.keys()]).toEqual(["__proto__"]);
  });
});

describe("an index and shards that differ", () => {
  test("a shard is missing", async () => {
    await index({ weight_map: await twoShards() });
    await rm(join(folder, "model-00002-of-00002.safetensors"));
    expect(await complaint()).toMatch(/model-00002-of-00002\.safetensors: it is missing$/);
  });
  test("a tensor is not in its shard", async () => {
    await index({ weight_map: { ...(await twoShards()), c: "model-00001-of-00002.safetensors" } });
    expect(await complaint()).toContain('model-00001-of-00002.safetensors: it lacks "c", which the index puts there');
  });
  test("a tensor is in two shards", async () => {
    const map = await twoShards();
    await shard("model-00002-of-00002.safetensors", one("b", 2), one("a", 3));
    await index({ weight_map: map });
    expect(await complaint()).toContain('holds "a", but the index puts it in model-00001-of-00002.safetensors');
  });
  test("a shard holds a tensor that the index does not list", async () => {
    const map = await twoShards();
    await shard("model-00002-of-00002.safetensors", one("b", 2), one("c", 3));
    await index({ weight_map: map });
    expect(await complaint()).toContain('holds "c", but the index does not list it');
  });
  test("the sizes in the metadata mean nothing", async ({ device }) => {
    const weight_map = await twoShards();
    for (const metadata of [undefined, { total_size: 1 }, { total_size: "many" }, 7]) {
      await index({ metadata, weight_map });
      const loaded = await loadFolder(folder, architecture, device);
      expect([...((await loaded.get("b")?.read()) ?? [])]).toEqual([2]);
    }
  });
});

describe("what is no file", () => {
  test("neither weights nor index", async () => {
    expect(await complaint()).toContain("holds neither model.safetensors nor model.safetensors.index.json");
    folder = join(folder, "none");
    expect(await complaint()).toContain("holds neither");
  });
  test("a folder, a pipe, a link to itself and a link to nowhere in place of a shard", async () => {
    const map = await twoShards();
    await index({ weight_map: map });
    const path = join(folder, "model-00002-of-00002.safetensors");
    const instead: [(path: string) => Promise<unknown> | void, string][] = [
      [(at) => mkdir(at), "it is not a file"],
      [(at) => void execFileSync("mkfifo", [at]), "it is not a file"],
      [(at) => symlink(at, at), "it is a link that leads to itself"],
      [(at) => symlink(join(folder, "nowhere"), at), "it is missing"],
    ];
    for (const [make, why] of instead) {
      await rm(path, { recursive: true });
      await make(path);
      expect(await complaint()).toBe(`${path}: ${why}`);
    }
  });
  test("a shard cut short, and one of garbage", async () => {
    await index({ weight_map: await twoShards() });
    const path = join(folder, "model-00002-of-00002.safetensors");
    await truncate(path, 70);
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ name: "WeightError", rule: "file-size" });
    await writeFile(path, "garbage that is longer than eight bytes");
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ rule: "header-length" });
  });
  test("JSON beyond the limit is not read", async () => {
    const path = join(folder, "config.json");
    await writeFile(path, "");
    await truncate(path, 100_000_001);
    await expect(readJson(path)).rejects.toThrow("100000001 bytes of JSON are more than 100000000");
    await expect(readJson(join(folder, "none.json"))).rejects.toThrow("none.json: it is missing");
  });
});

test("a cache of Hugging Face, whose files are links out of the folder, is opened", async ({ device }) => {
  const map = await twoShards();
  const snapshot = join(folder, "snapshots", "0123");
  await mkdir(join(folder, "blobs"));
  await mkdir(snapshot, { recursive: true });
  for (const name of new Set(Object.values(map) as string[])) {
    await rename(join(folder, name), join(folder, "blobs", `hash-of-${name}`));
    await symlink(join("..", "..", "blobs", `hash-of-${name}`), join(snapshot, name));
  }
  await index({ weight_map: map });
  await rename(join(folder, "model.safetensors.index.json"), join(snapshot, "model.safetensors.index.json"));
  const loaded = await loadFolder(snapshot, architecture, device);
  expect([...loaded.keys()]).toEqual(["a", "b"]);
});

test("one file comes before an index, and errors of keys name the folder", async ({ device }) => {
  await index({ weight_map: { a: "gone.safetensors" } });
  await shard("model.safetensors", one("a", 5), one("c", 6));
  const error = await loadFolder(folder, architecture, device).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(WeightsError);
  expect(error).toMatchObject({ missing: ["b"], unexpected: ["c"], misshapen: [] });
  expect((error as Error).message).toContain(`${folder}: its tensors are not those of the model`);
});
