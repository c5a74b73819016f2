import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError, WeightError } from "@rot/tensor";
import { type FileDType, fileDTypeBits, writeSafetensors } from "@rot/tensor/safetensors";
import { expect, onTestFinished, test } from "vitest";
import { whole } from "../../test/tools/torch-files.ts";
import { fromSafetensors } from "./from-safetensors.ts";
import { compareCheckpoints, inspectCheckpoint } from "./inspect.ts";
import { openCheckpoint } from "./open-checkpoint.ts";
import { parseSize, planShards } from "./shards.ts";
import { toSafetensors } from "./to-safetensors.ts";
import { torchDTypeOf } from "./torch-pickle/dtypes.ts";
import { type TensorToWrite, writeTorchFile } from "./torch-pickle/writer.ts";

const golden = fileURLToPath(new URL("../../test/golden/pt_checkpoints", import.meta.url));

async function scratch(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "convert-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

function tensor(dtype: FileDType, shape: readonly number[], seed = 0): TensorToWrite {
  const size = shape.reduce((product, n) => product * n, fileDTypeBits[dtype] / 8);
  return {
    dtype,
    shape,
    data: Uint8Array.from({ length: size }, (_, i) => (i * 37 + seed) % (dtype === "BOOL" ? 2 : 251)),
  };
}

async function save(path: string, value: Parameters<typeof writeTorchFile>[0]): Promise<string> {
  await writeFile(path, await whole(writeTorchFile(value)));
  return path;
}

test("sizes are read as the reference reads them, and GiB too", () => {
  expect(["5GB", "5GiB", "1.5 mb", "1000", "2kb", "7B", " 1TB "].map(parseSize)).toEqual([
    5 * 2 ** 30,
    5 * 2 ** 30,
    1.5 * 2 ** 20,
    1000,
    2048,
    7,
    2 ** 40,
  ]);
  for (const text of ["", "0", "-1", "5XB", "five", "1e3", "NaN", "GB", "99999999TB"])
    expect(() => parseSize(text)).toThrow(UsageError);
});

test("shards are filled by falling size, and what is too large stands alone", () => {
  const sizes = (limit: number, ...bytes: number[]) =>
    planShards(
      bytes.map((size) => ({ bytes: size })),
      limit,
    ).map((shard) => shard.map((item) => item.bytes));
  expect(sizes(10, 1, 9, 4, 30, 6)).toEqual([[30], [9], [6, 4], [1]]);
  expect(sizes(10, 5, 5)).toEqual([[5, 5]]);
  expect(sizes(10, 0, 0)).toEqual([[0, 0]]);
});

test("every dtype and shape goes to safetensors and back with its bits, and the second file is the first", async () => {
  const folder = await scratch();
  const stateDict = new Map<string, TensorToWrite>();
  for (const dtype of torchDTypeOf.keys()) {
    for (const shape of [[], [0, 3], [5], [2, 3, 4]])
      stateDict.set(`${dtype}.${shape.join("x")}`, tensor(dtype, shape));
  }
  for (const format of ["module", "model", "state_dict", "direct"] as const) {
    const value = format === "direct" ? stateDict : new Map([[format, stateDict]]);
    const first = await save(join(folder, `${format}.pt`), value);
    await toSafetensors({ input: first, output: join(folder, format), maxShardSize: "100" });
    const again = join(folder, "again", `${format}.pt`);
    await fromSafetensors({ input: join(folder, format), output: again, format });
    expect(await compareCheckpoints(first, again)).toMatchObject({
      onlyInA: [],
      onlyInB: [],
      shapes: [],
      dtypes: [],
      common: stateDict.size,
    });

    const [one, two] = await Promise.all(
      [first, again].map(async (input, index) => {
        const { files } = await toSafetensors({ input, output: join(folder, `${format}-${index}`) });
        return readFile(files[0] as string);
      }),
    );
    expect(two).toEqual(one);
  }
});

test("the layout is the reference's: names, index and record", async () => {
  const folder = await scratch();
  const input = await save(
    join(folder, "x.pt"),
    new Map([
      [
        "module",
        new Map([
          ["module.b", tensor("F32", [4])],
          ["model.a", tensor("BF16", [3])],
        ]),
      ],
    ]),
  );
  const one = await toSafetensors({ input, output: join(folder, "one") });
  expect(await readdir(join(folder, "one"))).toEqual(["RoT.safetensors", "conversion_metadata.json"]);
  expect([...one.weightMap]).toEqual([
    ["b", "RoT.safetensors"],
    ["a", "RoT.safetensors"],
  ]);
  expect(await readFile(join(folder, "one", "conversion_metadata.json"), "utf8")).toBe(
    `{
  "source": "DeepSpeed checkpoint",
  "original_checkpoint": ${JSON.stringify(input)},
  "conversion_format": "safetensors",
  "total_parameters": 7,
  "total_size_bytes": 22,
  "num_shards": 1
}`,
  );
  await toSafetensors({ input, output: join(folder, "two"), maxShardSize: "16", modelName: "M", cleanKeys: false });
  expect((await readdir(join(folder, "two"))).toSorted()).toEqual([
    "M-00001-of-00002.safetensors",
    "M-00002-of-00002.safetensors",
    "M.safetensors.index.json",
    "conversion_metadata.json",
  ]);
  expect(JSON.parse(await readFile(join(folder, "two", "M.safetensors.index.json"), "utf8"))).toEqual({
    metadata: { total_size: 22 },
    weight_map: { "module.b": "M-00001-of-00002.safetensors", "model.a": "M-00002-of-00002.safetensors" },
  });
});

test("tied weights are written once, come back tied, and are written twice for --reference", async () => {
  const folder = await scratch();
  const table = tensor("F32", [4, 2]);
  const input = await save(
    join(folder, "x.pt"),
    new Map([
      ["language_model.embed_tokens.weight", table],
      ["llm_lm_head.weight", table],
    ]),
  );
  const lean = await toSafetensors({ input, output: join(folder, "lean") });
  expect([...lean.aliases]).toEqual([["llm_lm_head.weight", "language_model.embed_tokens.weight"]]);
  expect(lean.bytes).toBe(32);
  expect((await inspectCheckpoint(join(folder, "lean"))).tied).toEqual([
    ["language_model.embed_tokens.weight", "llm_lm_head.weight"],
  ]);
  await fromSafetensors({ input: join(folder, "lean"), output: join(folder, "back.pt"), format: "direct" });
  expect(await readFile(join(folder, "back.pt"))).toEqual(await readFile(input));

  const full = await toSafetensors({ input, output: join(folder, "full"), reference: true });
  expect(full.bytes).toBe(64);
  await fromSafetensors({ input: join(folder, "full"), output: join(folder, "apart.pt") });
  expect((await inspectCheckpoint(join(folder, "apart.pt"))).tied).toEqual([]);
  const { tied } = await fromSafetensors({
    input: join(folder, "full"),
    output: join(folder, "tied.pt"),
    restoreWeightTying: true,
    prefix: "p.",
  });
  expect([...tied]).toEqual([["llm_lm_head.weight", "language_model.embed_tokens.weight"]]);
  expect((await inspectCheckpoint(join(folder, "tied.pt"))).tied).toEqual([
    ["module.p.language_model.embed_tokens.weight", "module.p.llm_lm_head.weight"],
  ]);
});

test("weights that differ are not tied, however close", async () => {
  const folder = await scratch();
  const input = await save(
    join(folder, "x.pt"),
    new Map([
      ["language_model.embed_tokens.weight", tensor("F32", [2])],
      ["llm_lm_head.weight", tensor("F32", [2], 1)],
    ]),
  );
  await toSafetensors({ input, output: join(folder, "st") });
  const { tied, different } = await fromSafetensors({
    input: join(folder, "st"),
    output: join(folder, "x2.pt"),
    restoreWeightTying: true,
  });
  expect(tied.size).toBe(0);
  expect(different).toEqual([["language_model.embed_tokens.weight", "llm_lm_head.weight"]]);
});

test("two tensors of one cleaned name are an error, and nothing is written", async () => {
  const folder = await scratch();
  const input = await save(
    join(folder, "x.pt"),
    new Map([
      ["module.a", tensor("F32", [1])],
      ["a", tensor("F32", [1])],
    ]),
  );
  await expect(toSafetensors({ input, output: join(folder, "out") })).rejects.toThrow(WeightError);
  expect(await readdir(folder)).toEqual(["x.pt"]);
  await toSafetensors({ input, output: join(folder, "out"), cleanKeys: false });
});

test("an output that is there stays as it is; a folder with other files takes new ones", async () => {
  const folder = await scratch();
  const input = join(golden, "handwritten_ok.pt");
  const output = join(folder, "out");
  await mkdir(output);
  await writeFile(join(output, "config.json"), "{}");
  await toSafetensors({ input, output });
  expect((await readdir(output)).toSorted()).toEqual(["RoT.safetensors", "config.json", "conversion_metadata.json"]);
  await expect(toSafetensors({ input, output })).rejects.toThrow("is there already");
  expect(await readdir(folder)).toEqual(["out"]);
  for (const modelName of ["../x", "a/b", "", "..", "a\\b"])
    await expect(toSafetensors({ input, output, modelName })).rejects.toThrow(UsageError);
});

const index = (weightMap: unknown) => JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap });
const hostile: readonly (readonly [title: string, index: string])[] = [
  ...[
    "../x.safetensors",
    "a/../../x.safetensors",
    "/etc/passwd",
    "C:\\x.safetensors",
    "..\\x.safetensors",
    "a\u0000.safetensors",
    "",
    ".",
    `${"x".repeat(300)}.safetensors`,
    "a\nb.safetensors",
  ].map((name): readonly [string, string] => [`the file ${JSON.stringify(name.slice(0, 20))}`, index({ a: name })]),
  ["a file that is not there", index({ a: "none.safetensors" })],
  ["a file name that is no string", index({ a: 1 })],
  ["no weight_map", "{}"],
  ["a weight_map that is a list", index(["s.safetensors"])],
  ["no JSON", "{"],
  ["no object", "[]"],
  ["a tensor that its file lacks", index({ a: "s.safetensors", b: "s.safetensors" })],
  ["a file with a tensor that the index lacks", index({})],
  ["a tensor in another file", index({ a: "t.safetensors", c: "s.safetensors" })],
];

test.for(hostile)("an index with %s is refused", async ([, text]) => {
  const folder = await scratch();
  const file = (name: string) => whole(writeSafetensors([{ name, dtype: "U8", shape: [1], data: new Uint8Array(1) }]));
  await writeFile(join(folder, "s.safetensors"), await file("a"));
  await writeFile(join(folder, "t.safetensors"), await file("c"));
  await writeFile(join(folder, "RoT.safetensors.index.json"), text);
  const output = join(folder, "out", "x.pt");
  await expect(fromSafetensors({ input: folder, output })).rejects.toThrow(WeightError);
});

test("an alias that fits no tensor is refused", async () => {
  const folder = await scratch();
  await toSafetensors({ input: join(golden, "handwritten_ok.pt"), output: join(folder, "st") });
  for (const aliases of [{ b: "none" }, { w: "w" }, { b: 1 }, []]) {
    await writeFile(join(folder, "st", "conversion_metadata.json"), JSON.stringify({ aliases }));
    await expect(fromSafetensors({ input: join(folder, "st"), output: join(folder, "x.pt") })).rejects.toThrow(
      WeightError,
    );
  }
});

test("a folder with a PEFT adapter, a DeepSpeed checkpoint, one model or files that belong together is opened by itself", async () => {
  const folder = await scratch();
  await writeFile(join(folder, "adapter_config.json"), '{"r": 16}');
  await save(join(folder, "adapter_model.bin"), new Map([["a", tensor("F32", [1])]]));
  const adapter = await inspectCheckpoint(folder);
  expect(adapter).toMatchObject({ kind: "peft adapter", metadata: { r: 16 }, parameters: 1, bytes: 4 });
  expect(await inspectCheckpoint(golden)).toMatchObject({ kind: "torch zip", values: { global_step: 5 } });
  await expect(openCheckpoint(join(golden, "expected"))).rejects.toThrow("name one");
  const stage1 = await inspectCheckpoint(join(golden, "stage1"));
  expect(stage1.kind).toBe("several files");
  expect(stage1.tensors.map(({ name }) => name)).toContain("special_tokens.bin: img_begin_emb");
  expect(await compareCheckpoints(join(golden, "stage1"), join(golden, "stage1"))).toMatchObject({
    onlyInA: [],
    onlyInB: [],
    common: stage1.tensors.length,
  });
  const none = { output: join(folder, "never") };
  await expect(toSafetensors({ input: join(folder, "none.pt"), ...none })).rejects.toThrow("is not there");
  await expect(toSafetensors({ input: golden, ...none })).rejects.toThrow("is a folder: name the file in it");
  await expect(openCheckpoint(join(golden, "refuse", "none"))).rejects.toThrow(UsageError);
});

test("values are compared across formats and dtypes, NaN equal to NaN", async () => {
  const folder = await scratch();
  const floats = (...values: number[]): TensorToWrite => ({
    dtype: "F32",
    shape: [values.length],
    data: new Uint8Array(Float32Array.from(values).buffer),
  });
  const a = await save(
    join(folder, "a.pt"),
    new Map([
      ["x", floats(1, Number.NaN, 3, 0)],
      ["y", floats(1)],
      ["only", floats(1)],
    ]),
  );
  const b = await save(
    join(folder, "b.pt"),
    new Map<string, TensorToWrite>([
      ["x", floats(1, Number.NaN, 2.5, -0)],
      ["y", { dtype: "BF16", shape: [1], data: Uint8Array.of(0x80, 0x3f) }],
    ]),
  );
  expect(await compareCheckpoints(a, b, { values: true })).toEqual({
    onlyInA: ["only"],
    onlyInB: [],
    shapes: [],
    dtypes: [{ name: "y", a: "F32", b: "BF16" }],
    common: 2,
    values: [{ name: "x", largest: 0.5, elements: 1 }],
  });
});
