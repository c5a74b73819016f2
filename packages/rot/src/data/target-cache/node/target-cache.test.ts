import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShapeError, UsageError } from "@rot/tensor";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Targets } from "../targets.ts";
import { targetCache } from "./target-cache.ts";

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "rot-targets-"))));
afterEach(() => rm(folder, { recursive: true }));

const keyOf = (name: string | number): string => createHash("sha256").update(String(name)).digest("hex");
const targets = (seed: number, rows = 5, columns = 8): Targets => ({
  rows,
  columns,
  data: Float32Array.from({ length: rows * columns }, (_, i) => Math.fround(Math.sin(seed * 100 + i))),
});
const pathOf = (key: string, dtype = "f32"): string => join(folder, key.slice(0, 2), `${key}.${dtype}`);
const entries = async (): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((one) => one.isFile())
    .map((one) => one.name);
const large = { limitBytes: 1e9 };

test("what is put is got, bit for bit, by this and by later caches; other keys are not there", async () => {
  const cache = await targetCache(folder, large);
  const key = keyOf("a");
  expect(await cache.get(key)).toBeUndefined();
  expect(await cache.put(key, targets(1))).toEqual(targets(1));
  expect(await cache.get(key)).toEqual(targets(1));
  expect(await cache.get(keyOf("b"))).toBeUndefined();
  expect(cache.counts).toEqual({ hits: 1, misses: 2, damaged: 0, removed: 0 });
  expect(await (await targetCache(folder, large)).get(key)).toEqual(targets(1));
  expect(await entries()).toEqual([`${key}.f32`]);
});

test("bf16 takes half the space, and put gives what get will", async () => {
  const cache = await targetCache(folder, { ...large, dtype: "bf16" });
  const kept = await cache.put(keyOf("a"), targets(1));
  expect(kept).not.toEqual(targets(1));
  expect(await cache.get(keyOf("a"))).toEqual(kept);
  expect(Math.max(...kept.data.map((value, i) => Math.abs(value - targets(1).data[i]!)))).toBeLessThan(2 ** -8);
  expect((await stat(pathOf(keyOf("a"), "bf16"))).size).toBe(44 + 5 * 8 * 2);
  expect(await (await targetCache(folder, large)).get(keyOf("a"))).toBeUndefined();
});

const damages: readonly (readonly [string, (path: string, size: number) => Promise<void>])[] = [
  ["empty", (path) => truncate(path, 0)],
  ["cut in its header", (path) => truncate(path, 20)],
  ["one byte short", (path, size) => truncate(path, size - 1)],
  ["one byte long", async (path) => writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(1)]))],
  ["text", (path) => writeFile(path, "x".repeat(300))],
  ...[0, 4, 9, 13, 44, 120].map(
    (at) =>
      [
        `changed at byte ${at}`,
        async (path: string) => {
          const bytes = await readFile(path);
          bytes[at]! ^= 1;
          await writeFile(path, bytes);
        },
      ] as const,
  ),
  [
    "of a size beyond memory",
    async (path) => {
      const bytes = await readFile(path);
      bytes.fill(0xff, 4, 12);
      await writeFile(path, bytes);
    },
  ],
];
test.for(damages)("an entry that is %s is noticed, removed and made again", async ([, damage]) => {
  const cache = await targetCache(folder, large);
  const key = keyOf("a");
  await cache.put(key, targets(1));
  await damage(pathOf(key), (await stat(pathOf(key))).size);
  expect(await cache.get(key)).toBeUndefined();
  expect(cache.counts).toMatchObject({ damaged: 1, misses: 1 });
  expect(await entries()).toEqual([]);
  await cache.put(key, targets(1));
  expect(await cache.get(key)).toEqual(targets(1));
});

test("an entry under another's name is noticed", async () => {
  const cache = await targetCache(folder, large);
  await cache.put(keyOf("a"), targets(1));
  await cache.put(keyOf("b"), targets(2));
  await writeFile(pathOf(keyOf("b")), await readFile(pathOf(keyOf("a"))));
  expect(await cache.get(keyOf("b"))).toBeUndefined();
});

test("beyond the limit those that were not used for longest go", async () => {
  const size = 44 + 5 * 8 * 4;
  const cache = await targetCache(folder, { limitBytes: 10 * size });
  for (let i = 0; i < 10; i++) {
    await cache.put(keyOf(i), targets(i));
    await utimes(pathOf(keyOf(i)), 1000 + i, 1000 + i);
  }
  expect(cache.counts.removed).toBe(0);
  await cache.get(keyOf(0)); // used now
  await cache.put(keyOf(10), targets(10));
  expect(cache.counts.removed).toBe(2);
  const left = await Promise.all(Array.from({ length: 11 }, (_, i) => cache.get(keyOf(i))));
  expect(left.map((one) => one !== undefined)).toEqual([true, false, false, ...Array<boolean>(8).fill(true)]);
  // One that is larger than all is not kept, and drives nothing out.
  expect(await cache.put(keyOf("huge"), targets(1, 100, 8))).toEqual(targets(1, 100, 8));
  expect((await entries()).length).toBe(9);
});

test("what a killed process left is removed, but not what is being written, nor what is not ours", async () => {
  await (await targetCache(folder, large)).put(keyOf("a"), targets(1));
  const shelf = join(folder, keyOf("a").slice(0, 2));
  await writeFile(join(shelf, ".old.part"), "x");
  await utimes(join(shelf, ".old.part"), 1000, 1000);
  await writeFile(join(shelf, ".new.part"), "x");
  await writeFile(join(folder, "notes.txt"), "mine");
  await utimes(join(folder, "notes.txt"), 1, 1);
  const cache = await targetCache(folder, { limitBytes: 300 });
  await cache.put(keyOf("b"), targets(2));
  expect((await entries()).toSorted()).toEqual([".new.part", "notes.txt", `${keyOf("b")}.f32`].toSorted());
});

test("what is wrong to ask", async () => {
  await expect(targetCache(folder, { limitBytes: 0 })).rejects.toThrow(UsageError);
  const cache = await targetCache(folder, large);
  await expect(cache.get("../../etc/passwd")).rejects.toThrow(UsageError);
  await expect(cache.put(keyOf(1), { rows: 2, columns: 2, data: new Float32Array(5) })).rejects.toThrow(ShapeError);
});

test("two processes fill and empty one cache, and none sees a wrong value", { timeout: 60_000 }, async () => {
  const code = `
    import { createHash } from "node:crypto";
    import { targetCache } from ${JSON.stringify(join(import.meta.dirname, "target-cache.ts"))};
    const keyOf = (name) => createHash("sha256").update(String(name)).digest("hex");
    const value = (seed, i) => Math.fround(Math.sin(seed * 100 + i));
    const cache = await targetCache(process.argv[1], { limitBytes: 20 * (44 + 2000 * 4) });
    let wrong = 0;
    for (let turn = 0; turn < 400; turn++) {
      const seed = (turn * 7 + Number(process.argv[2])) % 40;
      const got = await cache.get(keyOf(seed));
      if (got) for (let i = 0; i < 2000; i++) if (got.data[i] !== value(seed, i)) wrong++;
      if (!got) await cache.put(keyOf(seed), { rows: 50, columns: 40, data: Float32Array.from({ length: 2000 }, (_, i) => value(seed, i)) });
    }
    console.log(JSON.stringify({ wrong, ...cache.counts }));`;
  const run = (start: number): Promise<Record<string, number>> =>
    new Promise((resolve, reject) => {
      const child = spawn(
        process.execPath,
        ["--conditions=@rot/source", "--import", "tsx", "--input-type=module", "-e", code, folder, String(start)],
        { stdio: ["ignore", "pipe", "pipe"] },
      );
      let [out, err] = ["", ""];
      child.stdout.on("data", (text) => (out += text));
      child.stderr.on("data", (text) => (err += text));
      child.on("close", (status) =>
        status === 0 ? resolve(JSON.parse(out) as Record<string, number>) : reject(new Error(err)),
      );
    });
  const results = await Promise.all([run(0), run(13)]);
  for (const { wrong, damaged, hits, removed } of results) {
    expect({ wrong, damaged }).toEqual({ wrong: 0, damaged: 0 });
    expect(hits).toBeGreaterThan(0);
    expect(removed).toBeGreaterThan(0);
  }
  const sizes = await Promise.all(
    (await entries()).map(async (name) => (await stat(join(folder, name.slice(0, 2), name))).size),
  );
  expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(20 * 8044);
  expect((await entries()).filter((name) => name.endsWith(".part"))).toEqual([]);
});
