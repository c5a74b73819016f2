import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromBytes } from "./byte-source.ts";
import { SafetensorsError } from "./error.ts";
import { type FileDType, fileDTypeBits, fileDTypes } from "./file-dtype.ts";
import { openSafetensors } from "./reader.ts";
import { type TensorSource, writeSafetensors } from "./writer.ts";

async function whole(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return new Uint8Array(Buffer.concat(parts));
}

const open = (bytes: Uint8Array) => openSafetensors(fromBytes(bytes), { name: "written" });

/** As `test/tools/safetensors-fixtures.py` fills tensors. */
function filled(name: string, dtype: FileDType, shape: readonly number[]): TensorSource {
  const size = (shape.reduce((a, b) => a * b, 1) * fileDTypeBits[dtype]) / 8;
  return { name, dtype, shape, data: Uint8Array.from({ length: size }, (_, index) => (index * 7) % 251) };
}

const names = [
  "",
  "a",
  "B",
  "ab",
  "a.b",
  "../../x",
  "__proto__",
  "é",
  "\ufffd",
  "😀",
  "\u{10000}",
  'q"\\/\b\f\n\r\t\u0001\u001f\u007f\u2028',
];
const torchNames = {
  bool: "BOOL",
  float4_e2m1fn_x2: "F4",
  uint8: "U8",
  int8: "I8",
  float8_e5m2: "F8_E5M2",
  float8_e4m3fn: "F8_E4M3",
  float8_e8m0fnu: "F8_E8M0",
  float8_e4m3fnuz: "F8_E4M3FNUZ",
  float8_e5m2fnuz: "F8_E5M2FNUZ",
  int16: "I16",
  uint16: "U16",
  float16: "F16",
  bfloat16: "BF16",
  int32: "I32",
  uint32: "U32",
  float32: "F32",
  complex64: "C64",
  float64: "F64",
  int64: "I64",
  uint64: "U64",
} as const;

const fixtures: readonly [name: string, entries: TensorSource[], metadata?: Map<string, string>][] = [
  [
    "dtypes",
    // Two F4 make a byte, and the reference counts bytes where it is given them.
    Object.entries(torchNames).map(([name, dtype]) => filled(`t_${name}`, dtype, [3, dtype === "F4" ? 4 : 2])),
    new Map([["format", "pt"]]),
  ],
  ["names", names.map((name, index) => filled(name, "U8", [index]))],
  [
    "shapes",
    [
      filled("scalar", "F32", []),
      filled("none", "I64", [3, 0]),
      filled("odd", "BOOL", [7]),
      filled("deep", "F16", [1, 2, 1, 3]),
    ],
    new Map([['"k"\n', "é\0"]]),
  ],
  ["empty", []],
  ["empty-metadata", [filled("a", "U8", [1])], new Map()],
];

test.for(fixtures)(
  "the reference's own %s.safetensors is written again byte for byte",
  async ([name, entries, metadata]) => {
    const theirs = new Uint8Array(
      readFileSync(new URL(`../../test/data/safetensors/${name}.safetensors`, import.meta.url)),
    );
    expect(await whole(writeSafetensors(entries, metadata))).toEqual(theirs);
    expect(await whole(writeSafetensors(entries.toReversed(), metadata))).toEqual(theirs);

    const opened = await open(theirs);
    expect([...opened.tensors.keys()].toSorted()).toEqual(entries.map((entry) => entry.name).toSorted());
    for (const entry of entries) {
      expect(opened.tensors.get(entry.name)).toMatchObject({
        name: entry.name,
        dtype: entry.dtype,
        shape: entry.shape,
      });
      expect(await opened.read(entry.name)).toEqual(entry.data);
    }
  },
);

test("without tensors, metadata are written where the reference writes what it cannot read", async () => {
  const bytes = await whole(writeSafetensors([], new Map()));
  expect(new TextDecoder().decode(bytes.subarray(8))).toBe('{"__metadata__":{}}     ');
});

const text = fc.string({ unit: "binary", maxLength: 12 });
const shape = fc.array(fc.nat({ max: 4 }), { maxLength: 4 });
const entry = fc.record({ name: text, dtype: fc.constantFrom(...fileDTypes), shape }).map((drawn) => {
  // Four elements of any dtype are whole bytes.
  const whole4 = fileDTypeBits[drawn.dtype] < 8 ? [...drawn.shape, 4] : drawn.shape;
  return filled(drawn.name, drawn.dtype, whole4);
});
const entries = fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 8 });
const metadata = fc.option(fc.uniqueArray(fc.tuple(text, text), { selector: ([key]) => key, maxLength: 4 }), {
  nil: undefined,
});

/** The bytes one after the other, as pieces. */
async function* crumbs(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (const byte of bytes) yield Uint8Array.of(byte);
}
const givings: readonly ((data: Uint8Array) => TensorSource["data"])[] = [
  (data) => data,
  (data) => async () => data,
  (data) => () => crumbs(data),
];

test("any tensors and metadata come back as they were written, whether given as bytes, as functions or in pieces", async () => {
  await fc.assert(
    fc.asyncProperty(entries, metadata, fc.constantFrom(...givings), async (written, texts, give) => {
      const sources = written.map((source) => ({ ...source, data: give(source.data as Uint8Array) }));
      const bytes = await whole(writeSafetensors(sources, texts && new Map(texts)));
      const opened = await open(bytes);
      expect(new Map(opened.metadata)).toEqual(new Map(texts));
      expect(opened.tensors.size).toBe(written.length);
      for (const source of written) {
        const found = opened.tensors.get(source.name);
        expect(found).toMatchObject({ name: source.name, dtype: source.dtype, shape: source.shape });
        // The data begin at a multiple of 8 and fall in width, so every tensor of whole bytes is aligned.
        expect((found?.begin ?? 1) % Math.ceil(fileDTypeBits[source.dtype] / 8)).toBe(0);
        expect(await opened.read(source.name)).toEqual(source.data);
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("metadata keys are sorted, so that equal content gives equal bytes", async () => {
  const forward = await whole(writeSafetensors([], new Map(["b", "a", "\ufffd", "😀"].map((key) => [key, key]))));
  const backward = await whole(writeSafetensors([], new Map(["😀", "\ufffd", "a", "b"].map((key) => [key, key]))));
  expect(forward).toEqual(backward);
  expect([...(await open(forward)).metadata.keys()]).toEqual(["a", "b", "\ufffd", "😀"]);
});

const four = filled("a", "F32", [1]);
const refused: readonly [title: string, rule: string, entries: TensorSource[], metadata?: Map<string, string>][] = [
  ["too few bytes", "size", [{ ...four, shape: [2] }]],
  ["too many bytes", "size", [{ ...four, dtype: "F16" }]],
  ["a negative dimension", "size", [{ ...four, shape: [-1, -1] }]],
  ["a dimension that is not whole", "size", [{ ...four, shape: [0.5, 2] }]],
  ["a tensor larger than a file can be", "overflow", [{ ...four, shape: [2 ** 40, 2 ** 40] }]],
  ["half a byte", "sub-byte", [{ ...four, dtype: "F4", shape: [3] }]],
  ["a dtype of another library", "dtype", [{ ...four, dtype: "float32" as FileDType }]],
  ["the same name twice with two dtypes", "duplicate-key", [four, filled("b", "F64", []), filled("a", "I8", [])]],
  ["the name of the metadata", "text", [{ ...four, name: "__metadata__" }]],
  ["a name with half a surrogate pair", "text", [{ ...four, name: "\ud800" }]],
  ["metadata with half a surrogate pair", "text", [four], new Map([["a", "\udc00"]])],
];

test.for(refused)("%s is refused before anything is written", ([, rule, given, texts]) => {
  let error: unknown;
  try {
    writeSafetensors(given, texts);
  } catch (reason) {
    error = reason;
  }
  expect(error).toBeInstanceOf(SafetensorsError);
  expect(error).toMatchObject({ rule });
});

test("a function that gives the wrong number of bytes ends the stream before they are written", async () => {
  const stream = writeSafetensors([{ ...four, data: () => new Uint8Array(3) }]);
  expect((await stream.next()).done).toBe(false);
  await expect(stream.next()).rejects.toThrow('writeSafetensors: tensor "a": 3 bytes came, but F32 [1] needs 4');
});

test("pieces that are too few or too many end the stream; those beyond the size are never asked for", async () => {
  let asked = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) {
      asked++;
      yield new Uint8Array(3);
    }
  }
  const drain = (data: TensorSource["data"]) => whole(writeSafetensors([{ ...four, data }]));
  await expect(drain(endless)).rejects.toThrow('writeSafetensors: tensor "a": 6 bytes came, but F32 [1] needs 4');
  expect(asked).toBe(2);
  await expect(drain(() => crumbs(new Uint8Array(3)))).rejects.toThrow("3 bytes came, but F32 [1] needs 4");
});

test("functions are called in the order of the file, one when the one before has been taken", async () => {
  const calls: string[] = [];
  const lazy = (name: string, dtype: FileDType): TensorSource => ({
    ...filled(name, dtype, [1]),
    data: () => {
      calls.push(name);
      return new Uint8Array(fileDTypeBits[dtype] / 8);
    },
  });
  const stream = writeSafetensors([lazy("b", "F16"), lazy("a", "F32")]);
  await stream.next();
  expect(calls).toEqual([]);
  await stream.next();
  expect(calls).toEqual(["a"]);
  await stream.next();
  expect(calls).toEqual(["a", "b"]);
});
