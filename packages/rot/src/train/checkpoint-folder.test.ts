import * as nodeFiles from "node:fs/promises";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type Contents,
  type Files,
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
  removeLeftovers,
  verifyCheckpoint,
  writeCheckpoint,
} from "./checkpoint-folder.ts";

let parent: string;
beforeEach(async () => {
  parent = join(await mkdtemp(join(tmpdir(), "rot checkpoints ")), "checkpoints");
});
afterEach(() => rm(join(parent, ".."), { recursive: true }));

const contents = (step: number): Contents => ({
  "model.safetensors": [Buffer.from(`weights of ${step}`), Buffer.alloc(70_000, step)],
  "state.json": [Buffer.from(JSON.stringify({ step }))],
});
const warnings: string[] = [];
const latest = async () => {
  warnings.length = 0;
  return latestCheckpoint(parent, (message) => warnings.push(message));
};

test("what is written is found, whole, under its step", async () => {
  const path = await writeCheckpoint(parent, 20, contents(20));
  expect(path).toBe(join(parent, "step-00000020"));
  expect(await verifyCheckpoint(path)).toEqual({ step: 20, path });
  expect((await readFile(join(path, "model.safetensors"))).length).toBe(70_013);
  expect(await latest()).toEqual({ step: 20, path });
  expect(await readdir(parent)).toEqual(["step-00000020"]);
});

test("no checkpoint at all is no error", async () => {
  expect(await latest()).toBeNull();
});

test("steps are ordered as numbers, and a step may be written again", async () => {
  for (const step of [999, 1000, 100_000_000, 1000]) await writeCheckpoint(parent, step, contents(step));
  expect(await listCheckpoints(parent)).toEqual([999, 1000, 100_000_000]);
});

test("a flipped bit, a cut and a missing file are noticed, named, and the checkpoint before is used", async () => {
  const damages: readonly [RegExp, (path: string) => Promise<void>][] = [
    [
      /model\.safetensors is not what was written: its SHA-256 differs/,
      async (path) => {
        const bytes = await readFile(join(path, "model.safetensors"));
        bytes[40_000]! ^= 4;
        await writeFile(join(path, "model.safetensors"), bytes);
      },
    ],
    [/state\.json has 3 bytes, its manifest says 10/, (path) => writeFile(join(path, "state.json"), '{"s')],
    [/state\.json is missing/, (path) => rm(join(path, "state.json"))],
    [/manifest\.json cannot be read/, (path) => writeFile(join(path, "manifest.json"), '{"format": 1, "st')],
    [/has format 2, and this version reads 1/, (path) => writeFile(join(path, "manifest.json"), '{"format": 2}')],
    [
      /does not list the files/,
      (path) =>
        writeFile(
          join(path, "manifest.json"),
          '{"format": 1, "step": 2, "files": {"../x": {"bytes": 0, "sha256": ""}}}',
        ),
    ],
  ];
  for (const [message, damage] of damages) {
    await writeCheckpoint(parent, 1, contents(1));
    await damage(await writeCheckpoint(parent, 2, contents(2)));
    expect((await latest())?.step).toBe(1);
    expect(warnings).toEqual([expect.stringMatching(message)]);
  }
});

test("the last, every n-th and the best stay; the rest goes, whole", async () => {
  for (let step = 10; step <= 100; step += 10) await writeCheckpoint(parent, step, { a: [Buffer.from("x")] });
  await pruneCheckpoints(parent, { last: 2, every: 50, best: 30 });
  expect(await listCheckpoints(parent)).toEqual([30, 50, 90, 100]);
  await pruneCheckpoints(parent, { last: 0 });
  expect(await listCheckpoints(parent)).toEqual([100]);
  expect(await readdir(parent)).toEqual(["step-00000100"]);
});

/** The real file system, but that its n-th call fails. */
function failing(n: number, code: string): Files & { calls: number } {
  const counter = { calls: 0 };
  const count = (): void => {
    if (++counter.calls === n) throw Object.assign(new Error(`${code}: planted`), { code });
  };
  const wrapped = Object.fromEntries(
    (["mkdir", "open", "readdir", "readFile", "rename", "rm", "stat"] as const).map((name) => [
      name,
      async (...args: unknown[]) => {
        count();
        const result = await (nodeFiles[name] as (...args: unknown[]) => Promise<unknown>)(...args);
        if (name !== "open") return result;
        const handle = result as nodeFiles.FileHandle;
        const [write, sync] = [handle.write.bind(handle), handle.sync.bind(handle)];
        Object.assign(handle, {
          write: async (...given: Parameters<typeof write>) => (count(), write(...given)),
          sync: async () => (count(), sync()),
        });
        return handle;
      },
    ]),
  ) as unknown as Files;
  return Object.defineProperty(wrapped, "calls", { get: () => counter.calls }) as Files & { calls: number };
}

test.for(["ENOSPC", "EIO", "EDQUOT", "EACCES", "EMFILE", "EROFS"])(
  "whichever call fails with %s, the error arrives and the checkpoint before stays the latest",
  async (code) => {
    await writeCheckpoint(parent, 1, contents(1));
    for (let n = 1; ; n++) {
      const files = failing(n, code);
      const error = await writeCheckpoint(parent, 2, contents(2), files).then(
        () => null,
        (thrown: NodeJS.ErrnoException) => thrown,
      );
      if (files.calls < n) {
        expect(n).toBeGreaterThan(15);
        break;
      }
      // The last call syncs the parent: by then the new one is whole, and only its name might be lost with the power.
      expect(error?.code).toBe(code);
      expect([1, 2]).toContain((await latest())?.step);
      expect(warnings).toEqual([]);
      await removeLeftovers(parent);
      expect((await readdir(parent)).every((name) => name.startsWith("step-"))).toBe(true);
      await rm(join(parent, "step-00000002"), { recursive: true, force: true });
    }
  },
);
