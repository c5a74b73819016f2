import { describe, expect, it } from "vitest";
import { DeviceError } from "../../errors.ts";
import { readTar } from "./tar.ts";

interface Entry {
  name: string;
  bytes?: Uint8Array;
  type?: string;
  size?: string;
  magic?: string;
  prefix?: string;
  checksum?: number;
}

function header({
  name,
  bytes = new Uint8Array(),
  type = "0",
  size,
  magic = "ustar\x0000",
  prefix = "",
  checksum,
}: Entry) {
  const block = Buffer.alloc(512);
  block.write(name, 0, 100, "latin1");
  block.write(size ?? `${bytes.length.toString(8).padStart(11, "0")}\0`, 124, 12, "latin1");
  block.write("        ", 148, "latin1");
  block.write(type, 156, 1, "latin1");
  block.write(magic, 257, 8, "latin1");
  block.write(prefix, 345, 155, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${(checksum ?? sum).toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

function tar(...entries: Entry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const bytes = entry.bytes ?? new Uint8Array();
    const body = Buffer.alloc(Math.ceil(bytes.length / 512) * 512);
    body.set(bytes);
    return [header(entry), body];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const one = Buffer.from("one");
const many = Buffer.alloc(1300, 7);

describe("readTar", () => {
  it("returns the bytes of the wanted files, and no others", () => {
    const archive = tar({ name: "a.so", bytes: one }, { name: "./b.so.1", bytes: many }, { name: "c", bytes: one });
    const files = readTar(archive, ["a.so", "b.so.1"]);
    expect([...files.keys()]).toEqual(["a.so", "b.so.1"]);
    expect(Buffer.from(files.get("a.so") ?? []).toString()).toBe("one");
    expect(Buffer.compare(files.get("b.so.1") ?? one, many)).toBe(0);
  });

  it("reads GNU archives, whose prefix field holds times", () => {
    expect(readTar(tar({ name: "a", bytes: one, magic: "ustar  \0", prefix: "14712345" }), ["a"]).size).toBe(1);
  });

  it("takes the one folder it is told of off the names, and no other", () => {
    const archive = tar({ name: "lib/a", bytes: one }, { name: "./lib/b", bytes: many }, { name: "c", bytes: one });
    expect([...readTar(archive, ["a", "b", "c"], "lib").keys()]).toEqual(["a", "b", "c"]);
    for (const name of ["lib/lib/a", "lib/../a", "lib//a", "lib/", "other/a"]) {
      expect(() => readTar(tar({ name }), [], "lib"), name).toThrow("is not a plain file name");
    }
  });

  it.for<[string, Entry]>([
    ["a path that climbs", { name: "../a" }],
    ["an absolute path", { name: "/etc/passwd" }],
    ["a path into a folder", { name: "dir/a" }],
    ["a hidden name", { name: ".." }],
    ["an empty name", { name: "" }],
    ["a name in the prefix field", { name: "a", prefix: "../.." }],
    ["a symbolic link", { name: "a", type: "2" }],
    ["a hard link", { name: "a", type: "1" }],
    ["a device", { name: "a", type: "3" }],
    ["a folder", { name: "a", type: "5" }],
    ["a pax header", { name: "a", type: "x" }],
    ["a GNU long name", { name: "a", type: "L" }],
    ["a wrong checksum", { name: "a", checksum: 1 }],
    ["another magic", { name: "a", magic: "tsuar\x0000" }],
    ["a size that is no number", { name: "a", size: "zzz" }],
    ["a negative size", { name: "a", size: "-0000000100" }],
    ["a size in base 256", { name: "a", size: "\x80\0\0\0\0\0\0\0\0\0\x01\0" }],
    ["a size past the end", { name: "a", size: "77777777777" }],
  ])("refuses %s", ([, entry]) => {
    expect(() => readTar(tar(entry), [])).toThrow(DeviceError);
    expect(() => readTar(tar(entry), [])).toThrow(/^damaged tar archive: /);
  });

  it("refuses a file that is there twice, and says which is missing", () => {
    expect(() => readTar(tar({ name: "a" }, { name: "./a" }), ["a"])).toThrow('"a" is in it twice');
    expect(() => readTar(tar({ name: "a" }), ["a", "b"])).toThrow("b is not in it");
  });

  it("refuses an archive cut at any byte of what it reads", () => {
    const archive = tar({ name: "a", bytes: many });
    for (let length = 0; length < 512 + 1536 + 512; length += 13) {
      expect(() => readTar(archive.subarray(0, length), ["a"])).toThrow(DeviceError);
    }
  });
});
