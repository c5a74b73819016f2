import { fromBytes } from "@rot/tensor/safetensors";
import { readFileSync } from "node:fs";
import { Parser } from "pickleparser";
import { expect, test } from "vitest";
import { bytes, checkpoint, unzip, whole } from "../../../test/tools/torch-files.ts";
import { TorchFileError } from "./error.ts";
import { listGlobals, openTorchFile } from "./reader.ts";
import { Opaque, type PickleValue, Tuple } from "./values.ts";
import { writeTorchFile } from "./writer.ts";

const open = async (pickle: Uint8Array) => openTorchFile(fromBytes(await checkpoint(pickle)), { name: "x.pt" });
const le = (width: 4 | 8, value: bigint): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt.asUintN(64, value), true);
  return new Uint8Array(view.buffer, 0, width);
};
const proto = bytes(0x80, 2);
const repeat = (count: number, part: string | number): Uint8Array => Buffer.alloc(count, part);

const refused: readonly (readonly [title: string, pickle: Uint8Array, rule: string, message: string])[] = [
  ["an integer of 2 GiB", bytes(proto, 0x8b, le(4, 0x7fffffffn), "x."), "limit", "an integer of 2147483647 bytes"],
  ["an integer of a negative length", bytes(proto, 0x8b, le(4, -1n), "."), "limit", "an integer of 4294967295 bytes"],
  ["a string of 2^60 bytes", bytes(0x80, 4, 0x8d, le(8, 2n ** 60n), "x."), "pickle", "a length of 1152921504606846976"],
  ["bytes of 2^63", bytes(0x80, 4, 0x8e, le(8, 2n ** 63n), "x."), "pickle", "a length of"],
  ["a string that ends beyond the pickle", bytes(proto, "X", le(4, 100n), "abc."), "pickle", "100 bytes wanted"],
  ["a string that is not UTF-8", bytes(proto, "X", le(4, 2n), 0xc3, 0x28, "."), "pickle", "not UTF-8"],
  ["100,000 lists in one another", bytes(proto, repeat(100_000, "]"), repeat(99_999, "a"), "."), "limit", "deep"],
  ["a list in itself", bytes(proto, "]q", 0, "h", 0, "a."), "limit", "one in itself"],
  ["a million containers", bytes(proto, "](", repeat(1_000_000, "}"), "e."), "limit", "containers"],
  ["a million memo entries", bytes(0x80, 4, "N", repeat(1_100_000, 0x94), "."), "limit", "memo"],
  ["five million opcodes", bytes(proto, "](", repeat(5_000_000, "N"), "e."), "limit", "opcodes"],
  ["protocol 1", bytes(0x80, 1, "N."), "pickle", "protocol 1"],
  ["protocol 6", bytes(0x80, 6, "N."), "pickle", "protocol 6"],
  ["NEWOBJ", bytes(proto, "ccollections\nOrderedDict\n)", 0x81, "."), "opcode", "NEWOBJ"],
  ["NEWOBJ of a call's result", bytes(proto, "ccollections\nOrderedDict\n)R)", 0x81, "."), "opcode", "NEWOBJ"],
  ["NEWOBJ_EX", bytes(proto, "ccollections\nOrderedDict\n)}", 0x92, "."), "opcode", "NEWOBJ_EX"],
  ["OBJ", bytes(proto, "(ccollections\nOrderedDict\no."), "opcode", "OBJ"],
  ["INST", bytes(proto, "(ios\nsystem\n."), "opcode", 'INST (0x69) of "os.system"'],
  ["an extension", bytes(proto, 0x84, le(4, 1n), "."), "opcode", "EXT4"],
  ["a buffer outside the file", bytes(0x80, 5, 0x97, "."), "opcode", "NEXT_BUFFER"],
  ["BUILD on a list", bytes(proto, "]}b."), "opcode", "only an OrderedDict"],
  ["BUILD with something else", bytes(proto, "}]b."), "opcode", "only an OrderedDict"],
  ["a call of a call's result", bytes(proto, "ccollections\nOrderedDict\n)R)R."), "pickle", "no function"],
  ["REDUCE without a tuple", bytes(proto, "ccollections\nOrderedDict\n]R."), "pickle", "no tuple"],
  ["an unknown function", bytes(proto, "cbuiltins\neval\n."), "global", '"builtins.eval" at byte 2'],
  [
    "a known name with a dot",
    bytes(0x80, 4, "X", le(4, 5n), "torch", "X", le(4, 9n), "Size.mro_", 0x93, "."),
    "global",
    "torch.Size.mro_",
  ],
  ["a global of numbers", bytes(0x80, 4, "K", 1, "K", 2, 0x93, "."), "pickle", "two strings"],
  ["a name without an end", bytes(proto, "c", "x".repeat(1000)), "pickle", "a name without an end"],
  ["taking a mark's place", bytes(proto, "](NNab."), "pickle", ""],
  ["taking below a mark", bytes(proto, "N(", 0x85, "."), "pickle", "the stack is empty"],
  ["a tuple without a mark", bytes(proto, "Nt."), "pickle", "no mark"],
  ["a key without a value", bytes(proto, "}(Nu."), "pickle", "a key without a value"],
  ["values left over", bytes(proto, "NN."), "pickle", "left on the stack"],
  ["a persistent id of text", bytes(proto, "X", le(4, 1n), "0Q."), "tensor", "persistent id"],
  ["complex numbers", bytes(proto, "ctorch\nComplexFloatStorage\n."), "global", "torch.ComplexFloatStorage"],
  [
    "text beyond Latin-1 as bytes",
    bytes(proto, "c_codecs\nencode\nX", le(4, 3n), "名X", le(4, 6n), "latin1", 0x86, "R."),
    "pickle",
    "Latin-1",
  ],
  [
    "another encoding",
    bytes(proto, "c_codecs\nencode\nX", le(4, 1n), "aX", le(4, 5n), "rot13", 0x86, "R."),
    "pickle",
    "_codecs.encode",
  ],
];

test.for(refused)("%s is refused", async ([, pickle, rule, message]) => {
  const refusal: unknown = await open(pickle).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(TorchFileError);
  expect((refusal as TorchFileError).rule).toBe(rule);
  expect((refusal as TorchFileError).message).toContain(message);
});

test("a list that doubles 40 times costs nothing while it holds no tensor", async () => {
  const doubling = bytes(
    proto,
    "]q",
    0,
    ...Array.from({ length: 40 }, (_, i) => bytes("](h", i, "h", i, "eq", i + 1)),
    ".",
  );
  // Each level leaves the list before it below: gather them into one tuple.
  const pickle = bytes(proto, "(", doubling.subarray(2, -1), "t.");
  expect((await open(pickle)).tensors).toEqual([]);
});

test("keys of any kind stay what they are, and touch no prototype", async () => {
  const text = (value: string) => bytes("X", le(4, BigInt(Buffer.byteLength(value))), value);
  const { value } = await open(
    bytes(proto, "}(", text("__proto__"), "}", text("x"), "K", 1, "sNK", 1, 0x88, "K", 2, "K", 7, 0x85, "K", 3, "u."),
  );
  const map = value as Map<PickleValue, PickleValue>;
  expect([...map.keys()]).toEqual(["__proto__", null, true, new Tuple([7])]);
  expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
});

test("objects of DeepSpeed's bookkeeping are read over, whatever they hold", async () => {
  const name = "deepspeed.runtime.fp16.loss_scaler.LossScaler";
  const made = bytes(proto, "cdeepspeed.runtime.fp16.loss_scaler\nLossScaler\n)", 0x81, "}(K", 1, "K", 2, "ub.");
  const { value, globals } = await open(made);
  expect(value).toEqual(new Opaque(name));
  expect(globals).toEqual([name]);
  const called = bytes(proto, "cdeepspeed.runtime.zero.config\nZeroStageEnum\nK", 2, 0x85, "R.");
  expect((await open(called)).value).toEqual(new Opaque("deepspeed.runtime.zero.config.ZeroStageEnum"));
  await expect(open(bytes(proto, "cdeepspeed.runtime.engine\nDeepSpeedEngine\n)", 0x81, "."))).rejects.toThrow(
    '"deepspeed.runtime.engine.DeepSpeedEngine"',
  );
});

test("integers of every width and sign come back as they were written", async () => {
  const integers = [
    0n,
    255n,
    256n,
    65536n,
    -1n,
    -128n,
    -129n,
    2n ** 31n,
    -(2n ** 31n),
    2n ** 53n,
    -(2n ** 53n) - 1n,
    2n ** 64n,
    -(2n ** 1000n),
  ];
  const { value } = await openTorchFile(fromBytes(await whole(writeTorchFile(integers))), { name: "x.pt" });
  expect((value as PickleValue[]).map((item) => BigInt(item as number))).toEqual(integers);
  expect((value as PickleValue[]).filter((item) => typeof item === "bigint")).toEqual([
    2n ** 53n,
    -(2n ** 53n) - 1n,
    2n ** 64n,
    -(2n ** 1000n),
  ]);
});

test("the globals of a refused file are listed, with what is allowed", async () => {
  const file = await checkpoint(
    bytes(proto, "}(Nccollections\nOrderedDict\n)R", "K", 1, "cposix\nsystem\nX", le(4, 2n), "ls", 0x85, "R}bu."),
  );
  expect(await listGlobals(fromBytes(file), { name: "x.pt" })).toEqual({
    globals: [
      { name: "collections.OrderedDict", allowed: true },
      { name: "posix.system", allowed: false },
    ],
  });
  const cut = await checkpoint(bytes(proto, "cposix\nsystem\n", 0x82, 1, "."));
  expect(await listGlobals(fromBytes(cut), { name: "x.pt" })).toMatchObject({
    globals: [{ name: "posix.system" }],
    stopped: expect.stringContaining("EXT1"),
  });
});

const golden = new URL("../../../test/golden/pt_checkpoints/", import.meta.url);
const valid = [
  "global_step5/mp_rank_00_model_states.pt",
  "stage1/special_tokens.bin",
  "wrappers/direct.pt",
  "stage1/optimizer.bin",
];

test.for(valid)("pickleparser, which shares no line with us, reads the same out of %s", async (name) => {
  const file = readFileSync(new URL(name, golden));
  const entries = await unzip(file);
  const pickle = [...entries].find(([key]) => key.endsWith("data.pkl"))?.[1] as Uint8Array;
  // Persistent ids reach it as tuples; a tensor becomes its call.
  const known: Readonly<Record<string, (...parameters: unknown[]) => unknown>> = {
    "collections.OrderedDict": () => new Map(),
    "torch.Size": (items) => items,
  };
  const theirs = new Parser({
    unpicklingTypeOfDictionary: "Map",
    persistentResolver: { resolve: (id) => id },
    nameResolver: {
      resolve: (module, global) => known[`${module}.${global}`] ?? ((...parameters) => ({ parameters })),
    },
  }).parse<Map<string, unknown>>(pickle);
  const ours = (await openTorchFile(fromBytes(file), { name })).value as Map<string, PickleValue>;
  expect([...ours.keys()]).toEqual([...theirs.keys()]);
  expect(names(ours)).toEqual(names(theirs));
});

/** Keys of dicts, and leaves that are plain, by path. */
function names(value: unknown, path = ""): string[] {
  if (value instanceof Tuple) return names(value.items, path);
  if (value instanceof Map)
    return [...value].flatMap(([key, item]) => [`${path}/${String(key)}`, ...names(item, `${path}/${String(key)}`)]);
  if (Array.isArray(value)) return value.flatMap((item, index) => names(item, `${path}/${index}`));
  return typeof value === "number" || typeof value === "string" || value === null ? [`${path}=${value}`] : [];
}
