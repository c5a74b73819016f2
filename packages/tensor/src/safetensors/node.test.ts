import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base, expect, onTestFinished } from "vitest";
import { pieces } from "./byte-source.ts";
import { openFile, writeFileAtomically } from "./node.ts";
import { openSafetensors } from "./reader.ts";
import { writeSafetensors } from "./writer.ts";

const test = base.extend<{ folder: string }>({
  // vitest reads the fixture's needs from the pattern, and this one needs none.
  // oxlint-disable-next-line no-empty-pattern
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "safetensors-"));
    await use(folder);
    await rm(folder, { recursive: true });
  },
});

const data = Uint8Array.from({ length: 1000 }, (_, index) => index % 251);
const tensors = [{ name: "w", dtype: "U8" as const, shape: [10, 100], data }];

test("a file written and opened again gives its tensors by ranges", async ({ folder }) => {
  const path = join(folder, "model.safetensors");
  const written = await writeFileAtomically(path, writeSafetensors(tensors));
  expect((await stat(path)).size).toBe(written);

  const source = await openFile(path);
  onTestFinished(() => source.close());
  const opened = await openSafetensors(source, { name: path });
  expect(await opened.read("w")).toEqual(data);
  expect(await Promise.all([opened.readRange("w", 3, 7), opened.readRange("w", 990, 1000)])).toEqual([
    data.subarray(3, 7),
    data.subarray(990),
  ]);
  expect((await opened.read("w")).byteOffset).toBe(0);
});

test("a file closed by hand or by the end of its scope cannot be read", async ({ folder }) => {
  const path = join(folder, "x");
  await writeFile(path, data);
  const [one, other] = [await openFile(path), await openFile(path)];
  await one.close();
  await other[Symbol.asyncDispose]();
  await expect(one.read(0, 8)).rejects.toThrow("closed");
  await expect(other.read(0, 8)).rejects.toThrow("closed");
});

test("a file cut short after it was opened is an error that says where it ends", async ({ folder }) => {
  const path = join(folder, "x");
  await writeFile(path, data);
  const source = await openFile(path);
  onTestFinished(() => source.close());
  await writeFile(path, data.subarray(0, 600));
  await expect(source.read(500, 700)).rejects.toMatchObject({
    rule: "short-read",
    message: expect.stringContaining("byte 600"),
  });
});

test("a file that is not there is the system's own error", async ({ folder }) => {
  await expect(openFile(join(folder, "none"))).rejects.toMatchObject({ code: "ENOENT" });
});

test("writing replaces a file in one step and leaves nothing beside it", async ({ folder }) => {
  const path = join(folder, "x");
  await writeFile(path, "old");
  await writeFileAtomically(path, [data.subarray(0, 400), new Uint8Array(0), data.subarray(400)]);
  expect(new Uint8Array(await readFile(path))).toEqual(data);
  expect(await readdir(folder)).toEqual(["x"]);
});

test("a stream that fails leaves the old file as it was and nothing beside it", async ({ folder }) => {
  const path = join(folder, "x");
  await writeFile(path, "old");
  const seen: string[][] = [];
  const late = async () => {
    seen.push(await readdir(folder));
    return data.subarray(1);
  };
  const failing = writeFileAtomically(path, writeSafetensors([{ name: "w", dtype: "U8", shape: [1000], data: late }]));
  await expect(failing).rejects.toThrow("999 bytes came");
  expect(seen[0]).toHaveLength(2);
  expect(await readdir(folder)).toEqual(["x"]);
  expect(await readFile(path, "utf8")).toBe("old");
});

test("a folder that is not there is an error at once", async ({ folder }) => {
  await expect(writeFileAtomically(join(folder, "none", "x"), [data])).rejects.toMatchObject({ code: "ENOENT" });
});

/** Writes `header`, `hole` bytes of nothing, and `data`. False when the disk cannot or would fill the hole. */
async function sparse(path: string, header: Uint8Array, hole: number): Promise<boolean> {
  const handle = await open(path, "w");
  try {
    await handle.write(header, 0, header.length, 0);
    await handle.truncate(header.length + hole + data.length);
    if ((await handle.stat()).blocks * 512 > hole / 2) return false;
    await handle.write(data, 0, data.length, header.length + hole);
    return true;
  } catch (error) {
    if (["ENOSPC", "EFBIG", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  } finally {
    await handle.close();
  }
}

test("the last tensor of a sparse file of 5 GiB is read at its place beyond 2³²", async ({ folder, skip }) => {
  const large = 5 * 2 ** 30;
  const path = join(folder, "large.safetensors");
  const zeros = { name: "zeros", dtype: "F32" as const, shape: [large / 4], data: () => new Uint8Array() };
  const last = { name: "last", dtype: "U8" as const, shape: [1000], data };
  const header = (await writeSafetensors([zeros, last]).next()).value as Uint8Array;
  // A disk without holes has no room or would take minutes.
  if (!(await sparse(path, header, large))) skip("no sparse files on this disk");

  const source = await openFile(path);
  onTestFinished(() => source.close());
  const opened = await openSafetensors(source, { name: path });
  expect(opened.tensors.get("last")?.begin).toBe(header.length + large);
  expect(await opened.read("last")).toEqual(data);
  expect(await opened.readRange("zeros", 2 ** 32 - 4, 2 ** 32 + 4)).toEqual(new Uint8Array(8));
  expect(await opened.readRange("zeros", large - 4, large)).toEqual(new Uint8Array(4));
});

test("ranges are cut into pieces that follow each other", () => {
  expect([...pieces(3, 13, 4)]).toEqual([
    [3, 7],
    [7, 11],
    [11, 13],
  ]);
  expect([...pieces(2 ** 33, 2 ** 33 + 2 ** 31)]).toHaveLength(2);
  expect([...pieces(5, 5)]).toEqual([]);
});

test("nothing that the browser's entry imports, however far, is of Node", async () => {
  const seen = new Set<string>();
  async function follow(url: URL): Promise<string[]> {
    if (seen.has(url.href)) return [];
    seen.add(url.href);
    const imported = [...(await readFile(url, "utf8")).matchAll(/from "([^"]+)"/g)].map(([, path]) => path ?? "");
    const below = imported.filter((path) => path.startsWith(".")).map((path) => follow(new URL(path, url)));
    return [...imported.filter((path) => !path.startsWith(".")), ...(await Promise.all(below)).flat()];
  }
  expect(await follow(new URL("index.ts", import.meta.url))).toEqual([]);
  expect(seen.size).toBeGreaterThan(8);
});
