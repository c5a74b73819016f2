import { readFileSync } from "node:fs";
import { fromBytes } from "@rot/tensor/safetensors";
import { expect, test } from "vitest";
import { bytes, checkpoint, whole } from "../../../test/tools/torch-files.ts";
import { openTorchFile } from "./reader.ts";
import { writeTorchFile } from "./writer.ts";

const golden = new URL("../../../test/golden/pt_checkpoints/", import.meta.url);
const small = (value: number) => bytes("K", value);
const word = (text: string) => bytes("X", text.length, 0, 0, 0, text);

/** A checkpoint that is one f32 view of a storage of 12 elements. */
const view = (size: readonly number[], stride: readonly number[], offset: number) =>
  checkpoint(
    bytes(
      bytes(0x80, 2, "ctorch._utils\n_rebuild_tensor_v2\n((", word("storage"), "ctorch\nFloatStorage\n", word("0")),
      bytes(word("cpu"), small(12), "tQ", small(offset), "(", ...size.map(small), "t(", ...stride.map(small), "t"),
      bytes(0x89, "ccollections\nOrderedDict\n)RtR."),
    ),
    [["0", new Uint8Array(48)]],
  );
const open = async (file: Uint8Array) => openTorchFile(fromBytes(file), { name: "x.pt" });

test("a view may reach the last element of its storage, and not one further", async () => {
  const fitting: [number[], number[], number][] = [
    [[12], [1], 0],
    [[3, 4], [4, 1], 0],
    [[4, 3], [1, 4], 0],
    [[1], [9], 11],
    [[], [], 11],
    [[2, 0], [9, 9], 99],
    [[7, 2], [1, 5], 0],
  ];
  for (const [size, stride, offset] of fitting) {
    expect((await open(await view(size, stride, offset))).tensors[0]?.tensor).toMatchObject({
      shape: size,
      stride,
      offset,
    });
  }
  const beyond: typeof fitting = [
    [[13], [1], 0],
    [[12], [1], 1],
    [[3, 4], [4, 1], 1],
    [[], [], 12],
    [[7, 2], [1, 6], 0],
    [[8, 2], [1, 5], 0],
  ];
  for (const [size, stride, offset] of beyond) {
    await expect(open(await view(size, stride, offset))).rejects.toThrow("reaches element 12 of storage");
  }
});

test("damage anywhere in a storage is found, also outside of the part that a tensor shows", async () => {
  const file = readFileSync(new URL("stage1/special_tokens.bin", golden));
  const opened = await open(file);
  const [first] = opened.tensors;
  const storage = first?.tensor.storage;
  expect(storage?.bytes).toBeGreaterThan(100);
  // The rows that tensors show lie behind the beginning of the table.
  expect(first?.tensor.offset).toBeGreaterThan(16);
  const at = file.indexOf("data/0") + 6;
  const damaged = Uint8Array.from(file);
  const begin = 64 * Math.ceil(at / 64);
  damaged[begin + 8] = (damaged[begin + 8] as number) ^ 1;
  const broken = await open(damaged);
  for (const { tensor } of broken.tensors) await expect(whole(broken.stream(tensor))).rejects.toThrow("checksum");
});

test("long bytes and deep values are written, and values that are too deep refused", async () => {
  const long = Uint8Array.from({ length: 300_000 }, (_, i) => i);
  expect((await open(await whole(writeTorchFile([long])))).value).toEqual([long]);
  let deep: unknown[] = [];
  for (let i = 0; i < 200; i++) deep = [deep];
  expect(() => writeTorchFile(deep as never)).toThrow("more than 100 deep");
});
