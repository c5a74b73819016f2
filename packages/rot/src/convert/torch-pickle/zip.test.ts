import { type ByteSource, fromBytes } from "@rot/tensor/safetensors";
import { expect, test } from "vitest";
import { bytes, checkpoint, whole, zip } from "../../../test/tools/torch-files.ts";
import { TorchFileError } from "./error.ts";
import { openTorchFile } from "./reader.ts";
import { TorchTensor } from "./values.ts";
import { writeTorchFile } from "./writer.ts";
import { readZipDirectory } from "./zip.ts";
import { writeZip } from "./zip-writer.ts";

const good = await checkpoint(bytes(0x80, 2, "}."));
const read = (file: Uint8Array): Promise<unknown> => openTorchFile(fromBytes(file), { name: "x.pt" });

/** `good` with `value` written at `at`, counted from where `signature` stands for the `nth` time. */
function patched(signature: number, nth: number, at: number, value: number, width: 2 | 4 = 2): Uint8Array {
  const file = Uint8Array.from(good);
  const view = new DataView(file.buffer);
  let left = nth;
  for (let i = 0; i + 4 <= file.length; i++) {
    if (view.getUint32(i, true) !== signature || left-- > 0) continue;
    if (width === 2) view.setUint16(i + at, value, true);
    else view.setUint32(i + at, value, true);
    return file;
  }
  throw new Error("no such record");
}
const [local, central, end, end64, locator] = [0x04034b50, 0x02014b50, 0x06054b50, 0x06064b50, 0x07064b50];

const refused: readonly (readonly [title: string, file: Uint8Array | Promise<Uint8Array>, message: string])[] = [
  ["a deflated entry", patched(central, 0, 10, 8), "compressed"],
  ["an encrypted entry", patched(central, 0, 8, 0x0809), "encrypted"],
  ["an unknown flag", patched(central, 0, 8, 0x1808), "flags 0x1808"],
  ["another method before the data", patched(local, 0, 8, 8), "two headers differ"],
  ["another name before the data", patched(local, 1, 30, 0x6262), "two headers differ"],
  ["another size in the directory", patched(central, 0, 24, 2, 4), "of two sizes"],
  ["another checksum", patched(central, 0, 16, 1, 4), "data.pkl has the checksum"],
  ["an entry on another disk", patched(central, 0, 34, 1), "another disk"],
  ["an offset beyond the file", patched(central, 0, 42, 0x7fffffff, 4), "ends before its entry"],
  ["two entries at one place", patched(central, 1, 42, 0, 4), "overlaps the one before"],
  ["an offset where no entry is", patched(central, 0, 42, 1, 4), "without a header"],
  ["more entries than the directory has", patched(end64, 0, 32, 9, 4), "twice, differently"],
  ["a comment", patched(end, 0, 20, 1), "comment"],
  ["a directory of another size", patched(end, 0, 12, 7, 4), "twice, differently"],
  ["a zip64 record elsewhere", patched(locator, 0, 8, 5, 4), "odd place"],
  ["a zip64 directory elsewhere", patched(end64, 0, 48, 5, 4), "differently"],
  ["a zip64 record of a later version", patched(end64, 0, 4, 45, 4), "no zip64 record"],
  ["zip64 numbers that are missing", patched(central, 0, 24, 0xffffffff, 4), "without its zip64 numbers"],
  [
    "two entries of one name",
    zip([
      ["a/data.pkl", "N."],
      ["a/data.pkl", "N."],
    ]),
    "two entries",
  ],
  ["a name that leaves the folder", zip([["../x/data.pkl", "N."]]), "odd name"],
  ["an absolute name", zip([["/x/data.pkl", "N."]]), "odd name"],
  ["a name of another system", zip([["C:\\x", "N."]]), "odd name"],
  ["a control character in a name", zip([["a/\u0000", "N."]]), "odd name"],
  [
    "two checkpoints",
    zip([
      ["a/data.pkl", "N."],
      ["b/data.pkl", "N."],
    ]),
    "several checkpoints",
  ],
  [
    "a program",
    zip([
      ["a/data.pkl", "N."],
      ["a/constants.pkl", "N."],
    ]),
    "TorchScript",
  ],
  ["an archive of something else", zip([["readme.txt", "hello"]]), "no data.pkl"],
  ["bytes after the end", bytes(good, 0), "not at the end of the file"],
  ["bytes before the beginning", bytes("PK", 3, 4, good), "odd place"],
];

test.for(refused)("%s is refused", async ([, file, message]) => {
  const refusal: unknown = await read(await file).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(TorchFileError);
  expect((refusal as TorchFileError).message).toContain(message);
});

test("every file cut short is refused", async () => {
  for (let length = 0; length < good.length; length++) {
    await expect(read(good.subarray(0, length)), `${length} bytes`).rejects.toThrow(TorchFileError);
  }
});

test("equal content gives equal bytes, aligned to 64", async () => {
  const write = () => whole(writeTorchFile(new Map([["w", { dtype: "F32", shape: [3], data: new Uint8Array(12) }]])));
  const file = await write();
  expect(await write()).toEqual(file);
  const entries = await readZipDirectory(fromBytes(file), () => expect.fail());
  expect([...entries.keys()][0]).toBe("archive/data.pkl");
  for (const { name, begin } of entries.values()) expect(begin % 64, name).toBe(0);
});

test("an entry that gives another number of bytes than it said ends the stream", async () => {
  for (const length of [3, 5]) {
    const tensor = { dtype: "U8" as const, shape: [4], data: new Uint8Array(length) };
    await expect(whole(writeTorchFile(tensor))).rejects.toThrow(`${length} bytes came, but 4 were announced`);
  }
});

/** Holds an archive as pieces: the long runs of zeros in it take no memory. */
class Sparse implements ByteSource {
  size = 0;
  readonly pieces: { readonly begin: number; readonly data: Uint8Array }[] = [];

  add(data: Uint8Array): void {
    this.pieces.push({ begin: this.size, data: Uint8Array.from(data) });
    this.size += data.length;
  }

  async read(begin: number, until: number): Promise<Uint8Array> {
    const found = new Uint8Array(until - begin);
    for (const piece of this.pieces) {
      const from = Math.max(begin, piece.begin);
      const to = Math.min(until, piece.begin + piece.data.length);
      if (from < to) found.set(piece.data.subarray(from - piece.begin, to - piece.begin), from - begin);
    }
    return found;
  }
}

test("entries and offsets beyond 4 GiB are written and read as zip64", async () => {
  const sparse = new Sparse();
  const zeros = new Uint8Array(2 ** 26);
  const size = 2 ** 32 + 2 ** 26;
  const long = async function* () {
    for (let left = size; left > 0; left -= zeros.length) yield zeros;
  };
  const entries = [
    { name: "a/long", size, data: long },
    { name: "a/after", size: 3, data: bytes("end") },
  ];
  for await (const chunk of writeZip(entries)) {
    if (chunk === zeros) sparse.size += chunk.length;
    else sparse.add(chunk);
  }
  const found = await readZipDirectory(sparse, (_, message) => expect.fail(message));
  const [first, after] = ["a/long", "a/after"].map((name) => found.get(name));
  expect((first?.end ?? 0) - (first?.begin ?? 0)).toBe(size);
  expect(after?.begin).toBeGreaterThan(size);
  expect(await sparse.read(after?.begin ?? 0, after?.end ?? 0)).toEqual(Uint8Array.from(bytes("end")));
});

test("a tensor that repeats a few bytes to terabytes is refused before anything is read", async () => {
  const shape = [2 ** 20, 2 ** 20];
  const file = await openTorchFile(
    fromBytes(await whole(writeTorchFile({ dtype: "U8", shape: [1], data: new Uint8Array(1) }))),
    { name: "x.pt" },
  );
  const tensor = file.tensors[0]?.tensor as TorchTensor;
  const large = new TorchTensor(tensor.storage, "U8", 0, shape, [0, 0]);
  await expect(file.stream(large).next()).rejects.toThrow("repeats a storage of 1");
});
