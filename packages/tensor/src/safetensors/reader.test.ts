import { expect, test } from "vitest";
import { UsageError, WeightError } from "../errors.ts";
import { type ByteSource, fromBlob, fromBytes } from "./byte-source.ts";
import type { Rule } from "./error.ts";
import { type FileDType, fileDTypes } from "./file-dtype.ts";
import { openSafetensors } from "./reader.ts";

/** A file of this header and so many zeros. `length` is what the first 8 bytes say, when they lie. */
function file(header: string | Uint8Array, dataSize = 4, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataSize);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const open = (bytes: Uint8Array) => openSafetensors(fromBytes(bytes), { name: "model.safetensors" });

const tensor = (shape: string, offsets: string, dtype = "F32") =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const good = tensor("[1]", "[0,4]");
const fields = good.slice(1, -1);
const a = (value: string) => `{"a":${value}}`;
const extra = (value: string) => a(`{${fields},"extra":${value}}`);
const towers = (height: number) => "[".repeat(height) + "]".repeat(height);
const bytes = (...values: number[]) => Uint8Array.from(values);
const latin = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

const rejected: readonly [title: string, rule: Rule, file: Uint8Array][] = [
  ["an empty file", "header-length", bytes()],
  ["a file of 7 bytes", "header-length", bytes(1, 0, 0, 0, 0, 0, 0)],
  ["a header of length 0", "json", file("", 0)],
  ["a header longer than the file", "header-length", file("{}", 0, 3n)],
  ["a header length of 2⁶³", "header-length", file("{}", 0, 2n ** 63n)],
  ["a header length of 2⁶⁴ - 1", "header-length", file("{}", 0, 2n ** 64n - 1n)],
  ["a header length of 100,000,001", "header-length", file("{}", 0, 100_000_001n)],
  ["a header that is not UTF-8", "utf-8", file(latin(a(`{${fields},"x":"\xff"}`)))],
  ["UTF-8 of a surrogate", "utf-8", file(latin(a(`{${fields},"x":"\xed\xa0\x80"}`)))],
  ["overlong UTF-8", "utf-8", file(latin(a(`{${fields},"x":"\xc0\x80"}`)))],
  ["a byte-order mark", "json", file(`\ufeff${a(good)}`)],
  ["a header that is not JSON", "json", file("not json", 0)],
  ["an array at the top", "json", file("[]", 0)],
  ["null at the top", "json", file("null", 0)],
  ["a trailing NUL", "json", file(`${a(good)}\0`)],
  ["trailing garbage", "json", file(`${a(good)}x`)],
  ["a second object", "json", file("{}{}", 0)],
  ["tensors that overlap", "offsets", file(`{"a":${tensor("[2]", "[0,8]")},"b":${tensor("[2]", "[4,12]")}}`, 12)],
  ["the same range twice", "offsets", file(`{"a":${good},"b":${good}}`)],
  ["a hole", "offsets", file(`{"a":${good},"b":${tensor("[1]", "[8,12]")}}`, 12)],
  ["tensors that do not start at 0", "offsets", file(a(tensor("[1]", "[4,8]")), 8)],
  ["an empty tensor inside another", "offsets", file(`{"a":${good},"b":${tensor("[0]", "[2,2]")}}`)],
  ["data longer than the tensors", "file-size", file(a(good), 5)],
  ["data that is too short", "file-size", file(a(good), 3)],
  ["data without tensors", "file-size", file("{}", 1)],
  ["begin after end", "offsets", file(`{"a":${good},"b":${tensor("[1]", "[4,0]")}}`, 8)],
  ["negative offsets", "tensor", file(a(tensor("[1]", "[-4,0]")))],
  ["float offsets", "tensor", file(a(tensor("[1]", "[0.0,4.0]")))],
  ["an offset written 1e3", "tensor", file(a(tensor("[250]", "[0,1e3]")), 1000)],
  ["an offset written -0", "tensor", file(a(tensor("[1]", "[-0,4]")))],
  ["an offset written 04", "json", file(a(tensor("[1]", "[0,04]")))],
  ["an offset that is a string", "tensor", file(a(tensor("[1]", '["0","4"]')))],
  ["an offset of 2⁶⁴", "tensor", file(a(tensor("[1]", "[0,18446744073709551616]")))],
  ["an offset of 2⁶⁴ - 1", "size", file(a(tensor("[1]", "[0,18446744073709551615]")))],
  ["a size that the shape does not give", "size", file(a(tensor("[2]", "[0,4]")))],
  ["a shape whose product overflows", "overflow", file(a(tensor("[4294967296,4294967296]", "[0,4]")))],
  ["a shape whose bits overflow", "overflow", file(a(tensor("[2305843009213693952]", "[0,4]")))],
  ["a shape that overflows before its 0", "overflow", file(a(tensor("[9223372036854775808,2,0]", "[0,0]")), 0)],
  ["a negative dimension", "tensor", file(a(tensor("[-1]", "[0,4]")))],
  ["a dimension written 1.0", "tensor", file(a(tensor("[1.0]", "[0,4]")))],
  ["a dimension of 2⁶⁴", "tensor", file(a(tensor("[0,18446744073709551616]", "[0,0]")), 0)],
  ["an unknown dtype", "dtype", file(a(tensor("[1]", "[0,4]", "F128")))],
  ["a dtype in lower case", "dtype", file(a(tensor("[1]", "[0,4]", "f32")))],
  ["a dtype that is a property of every object", "dtype", file(a(tensor("[1]", "[0,4]", "constructor")))],
  ["a missing dtype", "tensor", file(a('{"shape":[1],"data_offsets":[0,4]}'))],
  ["a missing shape", "tensor", file(a('{"dtype":"F32","data_offsets":[0,4]}'))],
  ["missing offsets", "tensor", file(a('{"dtype":"F32","shape":[1]}'))],
  ["three offsets", "tensor", file(a(tensor("[1]", "[0,4,8]")))],
  ["one offset", "tensor", file(a(tensor("[1]", "[0]")))],
  ["a shape that is null", "tensor", file(a(tensor("null", "[0,4]")))],
  ["a tensor that is null", "tensor", file(a("null"), 0)],
  ["a metadata value that is not a string", "metadata", file('{"__metadata__":{"a":1}}', 0)],
  ["metadata that are an array", "metadata", file('{"__metadata__":[]}', 0)],
  ["an odd number of F4", "sub-byte", file(a(tensor("[3]", "[0,2]", "F4")), 2)],
  ["three F6", "sub-byte", file(a(tensor("[3]", "[0,3]", "F6_E3M2")), 3)],
  ["100,000 levels of nesting", "depth", file(extra(towers(100_000)))],
  ["128 levels of nesting", "depth", file(extra(towers(126)))],
  ["half a surrogate pair as an escape", "json", file(`{"\\ud800":${good}}`)],
  ["the second half of a pair alone", "json", file(`{"\\udc00":${good}}`)],
  ["half a pair before another escape", "json", file(`{"\\ud800\\n":${good}}`)],
  ["half a pair in a field that nobody reads", "json", file(extra('"\\ud800"'))],
  ["a control character in a string", "json", file(`{"\n":${good}}`)],
  ["an unknown escape", "json", file(`{"\\v":${good}}`)],
  ["a trailing comma", "json", file(`{"a":${good},}`)],
  ["a number out of range in a field that nobody reads", "json", file(extra("1e400"))],
  ["a tensor that stands twice", "duplicate-key", file(`{"a":${good},"a":${good}}`)],
  ["a tensor that stands twice, once by escapes", "duplicate-key", file(`{"a":${good},"\\u0061":${good}}`)],
  ["a field that stands twice", "duplicate-key", file(a(`{${fields},"shape":[1]}`))],
  ["a metadata key that stands twice", "duplicate-key", file('{"__metadata__":{"a":"1","a":"2"}}', 0)],
  ["metadata that stand twice", "duplicate-key", file('{"__metadata__":{},"__metadata__":{}}', 0)],
  ["__proto__ twice", "duplicate-key", file(`{"__proto__":${good},"__proto__":${good}}`)],
];

test.for(rejected)("%s is rejected", async ([, rule, content]) => {
  const error: unknown = await open(content).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(WeightError);
  expect(error).toMatchObject({ rule, message: expect.stringMatching(/^model\.safetensors: ./) });
});

const accepted: readonly [title: string, file: Uint8Array][] = [
  ["an empty object", file("{}", 0)],
  ["a leading space", file(` ${a(good)}`)],
  ["leading line ends and tabs", file(`\r\n\t${a(good)}`)],
  ["trailing spaces", file(`${a(good)}       `)],
  ["a further field of a tensor", file(extra('{"b":[1.5,-0,1e-400,true,null,"\\ud83d\\ude00"]}'))],
  ["metadata of null", file(`{"__metadata__":null,"a":${good}}`)],
  ["metadata after the tensors", file(`{"a":${good},"__metadata__":{"format":"pt"}}`)],
  ["metadata named by escapes", file(`{"__m\\u0065tadata__":{"format":"pt"},"a":${good}}`)],
  ["127 levels of nesting", file(extra(towers(125)))],
  ["a dimension of 0", file(a(tensor("[3,0]", "[0,0]")), 0)],
  ["a dimension of 2⁶⁴ - 1 beside a 0", file(a(tensor("[0,18446744073709551615]", "[0,0]")), 0)],
  ["a scalar", file(a(tensor("[]", "[0,4]")))],
  ["an empty name", file(`{"":${good}}`)],
  ["a name that looks like a path", file(`{"../../x":${good}}`)],
  ["tensors out of order", file(`{"a":${tensor("[1]", "[4,8]")},"b":${good}}`, 8)],
  [
    "an empty tensor between two others",
    file(`{"a":${good},"b":${tensor("[1]", "[4,8]")},"c":${tensor("[0]", "[4,4]")}}`, 8),
  ],
  ["an even number of F4", file(a(tensor("[4]", "[0,2]", "F4")), 2)],
  ["four F6", file(a(tensor("[4]", "[0,3]", "F6_E2M3")), 3)],
  ["a tensor as an array, which the reference takes", file(a('["F32",[1],[0,4]]'))],
  [
    "a dtype as an object, which the reference takes",
    file(a('{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}')),
  ],
];

test.for(accepted)("%s is accepted", async ([, content]) => {
  await expect(open(content)).resolves.toBeDefined();
});

test("a header of 100,000,000 bytes is read, and one byte more is refused before it is", async () => {
  const longest = 100_000_000;
  const reads: number[] = [];
  const padded = (length: number): ByteSource => ({
    size: 8 + length,
    async read(begin, end) {
      reads.push(begin);
      const read = new Uint8Array(end - begin).fill(0x20);
      if (begin === 0) new DataView(read.buffer).setBigUint64(0, BigInt(length), true);
      else read.set([0x7b, 0x7d]);
      return read;
    },
  });
  const opened = await openSafetensors(padded(longest), { name: "long" });
  expect(opened.tensors.size).toBe(0);
  reads.length = 0;
  await expect(openSafetensors(padded(longest + 1), { name: "longer" })).rejects.toMatchObject({
    rule: "header-length",
  });
  expect(reads).toEqual([0]);
});

test("names that every object has are names like any other", async () => {
  const opened = await open(file(`{"__proto__":${good},"constructor":${tensor("[1]", "[4,8]")}}`, 8));
  expect([...opened.tensors.keys()]).toEqual(["__proto__", "constructor"]);
  const empty = await open(file("{}", 0));
  await expect(empty.read("constructor")).rejects.toThrow('model.safetensors: no tensor "constructor" among its 0');
});

test("a message names file, tensor, value and rule, and shows no control characters", async () => {
  await expect(open(file(a(tensor("[2,3]", "[0,4]"))))).rejects.toThrow(
    'model.safetensors: tensor "a": data_offsets [0, 4] hold 4 bytes, but F32 [2, 3] needs 24',
  );
  await expect(open(file(`{"\\u001b[2J":${tensor("[1]", "[0,4]", "x".repeat(500))}}`))).rejects.toThrow(
    `model.safetensors: tensor "\\u001b[2J": "${"x".repeat(80)}…" is not a dtype of safetensors`,
  );
});

test("entries say dtype, shape and place of every tensor", async () => {
  const content = file(`{"__metadata__":{"format":"pt"},"b":${tensor("[1,2]", "[4,8]", "F16")},"a":${good}}`, 8);
  const opened = await open(content);
  const begin = content.length - 8;
  expect([...opened.metadata]).toEqual([["format", "pt"]]);
  expect([...opened.tensors.values()]).toEqual([
    { name: "b", dtype: "F16", shape: [1, 2], begin: begin + 4, end: begin + 8 },
    { name: "a", dtype: "F32", shape: [1], begin, end: begin + 4 },
  ]);
});

const widths: Readonly<Record<number, string>> = {
  4: "F4",
  6: "F6_E2M3 F6_E3M2",
  8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
  16: "I16 U16 F16 BF16",
  32: "I32 U32 F32",
  64: "C64 F64 I64 U64",
};
const elementBits = Object.entries(widths).flatMap(([bits, names]) =>
  names.split(" ").map((name): [FileDType, number] => [name as FileDType, Number(bits)]),
);

test("the dtypes are those of the reference, and no others", () => {
  expect(elementBits.map(([name]) => name).toSorted()).toEqual(fileDTypes.toSorted());
});

test.for(elementBits)("four elements of %s take four times %i bits", async ([dtype, bits]) => {
  await expect(open(file(a(tensor("[4]", `[0,${bits / 2}]`, dtype)), bits / 2))).resolves.toBeDefined();
  await expect(open(file(a(tensor("[4]", `[0,${bits}]`, dtype)), bits))).rejects.toMatchObject({ rule: "size" });
});

test("the header is read once, and then only what is asked for", async () => {
  const content = file(`{"a":${good},"b":${tensor("[2]", "[4,12]")}}`, 12);
  content.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], content.length - 12);
  const reads: [number, number][] = [];
  const source: ByteSource = {
    size: content.length,
    async read(begin, end) {
      reads.push([begin, end]);
      return content.subarray(begin, end);
    },
  };
  const opened = await openSafetensors(source, { name: "x" });
  const data = content.length - 12;
  expect([...(await opened.read("b"))]).toEqual([5, 6, 7, 8, 9, 10, 11, 12]);
  expect([...(await opened.readRange("b", 1, 3))]).toEqual([6, 7]);
  expect(reads).toEqual([
    [0, 8],
    [8, data],
    [data + 4, data + 12],
    [data + 5, data + 7],
  ]);
});

test.for([
  [-1, 2],
  [0, 5],
  [3, 2],
  [0.5, 1],
  [0, Number.NaN],
])("a range of %d to %d in a tensor of 4 bytes is a mistake of the caller", async ([begin = 0, end = 0]) => {
  const opened = await open(file(a(good)));
  await expect(opened.readRange("a", begin, end)).rejects.toThrow(UsageError);
});

test("a source that comes up short is an error, not silence", async () => {
  const content = file(a(good));
  const source = {
    size: content.length,
    read: async (begin: number, end: number) => content.slice(begin, Math.min(end, 60)),
  };
  await expect(openSafetensors(source, { name: "cut" })).rejects.toMatchObject({ rule: "short-read" });
});

test("a Blob serves as memory does", async () => {
  const content = file(a(good));
  content.set([1, 2, 3, 4], content.length - 4);
  const opened = await openSafetensors(fromBlob(new Blob([content as Uint8Array<ArrayBuffer>])), { name: "blob" });
  expect([...(await opened.readRange("a", 1, 4))]).toEqual([2, 3, 4]);
  const fromBuffer = await openSafetensors(fromBytes(content.buffer as ArrayBuffer), { name: "buffer" });
  expect([...(await fromBuffer.read("a"))]).toEqual([1, 2, 3, 4]);
});
