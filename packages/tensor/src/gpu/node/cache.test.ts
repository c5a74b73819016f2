import { chmod, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Cache, shortened } from "./cache.ts";

let folder: string;
let cache: Cache;
let filled: number;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-cache-test-"));
  cache = new Cache(join(folder, "deep/cache"), join(folder, "fallback"));
  filled = 0;
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const fill = async (target: string): Promise<void> => {
  filled++;
  await writeFile(join(target, "a"), "hello");
};

it("an entry is filled once, and found again", async () => {
  const path = await cache.entry("thing-1", fill);
  expect(await cache.entry("thing-1", fill)).toBe(path);
  expect(await readFile(join(path, "a"), "utf8")).toBe("hello");
  expect(filled).toBe(1);
  expect(await cache.find("thing-")).toEqual([path]);
  expect(await cache.find("other-")).toEqual([]);
});

it("an entry that was cut short or lost a file is made again", async () => {
  const path = await cache.entry("thing-1", fill);
  await truncate(join(path, "a"), 2);
  expect(await cache.find("thing-")).toEqual([]);
  await cache.entry("thing-1", fill);
  await rm(join(path, "a"));
  await cache.entry("thing-1", fill);
  expect(filled).toBe(3);
  expect(await readdir(join(folder, "deep/cache"))).toEqual(["thing-1"]);
});

it("racers make an entry more than once and keep one", async () => {
  const paths = await Promise.all(Array.from({ length: 8 }, () => cache.entry("thing-1", fill)));
  expect(new Set(paths).size).toBe(1);
  expect(await readdir(join(folder, "deep/cache"))).toEqual(["thing-1"]);
});

it("a failure to fill leaves nothing behind", async () => {
  await expect(cache.entry("thing-1", () => Promise.reject(new Error("disk full")))).rejects.toThrow("disk full");
  expect(await readdir(join(folder, "deep/cache"))).toEqual([]);
});

it.skipIf(process.platform === "win32")("where nothing can be written, the fallback serves", async () => {
  await writeFile(join(folder, "deep"), "a file where a folder should be");
  expect(await cache.entry("thing-1", fill)).toBe(join(folder, "fallback/thing-1"));
  expect(await cache.find("thing-")).toEqual([join(folder, "fallback/thing-1")]);
});

it.skipIf(process.platform === "win32")("a folder that everybody can write to is not used", async () => {
  for (const name of ["deep/cache", "fallback"]) {
    await mkdir(join(folder, name), { recursive: true });
    await chmod(join(folder, name), 0o777);
  }
  await expect(cache.entry("thing-1", fill)).rejects.toThrow("can be changed by others");
});

it.skipIf(process.platform !== "linux")("a folder under /proc does not hang", async () => {
  const hopeless = new Cache("/proc/nowhere/cache", "/proc/nowhere/fallback");
  await expect(hopeless.writable()).rejects.toThrow("/proc/nowhere cannot be made");
});

it("a path under the home folder is shown short", () => {
  expect(shortened("/elsewhere/a")).toBe("/elsewhere/a");
});
