import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTokenizer } from "@rot/models/node";
import { type Device, tensor, UsageError, WeightError } from "@rot/tensor";
import { fromBytes, openSafetensors, type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import { openFile, writeFileAtomically } from "@rot/tensor/safetensors/node";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { openGolden } from "../../../test/tools/golden-bundle.ts";
import { openBundle } from "../../bundle/node/index.ts";
import { decode } from "../decode.ts";
import { encode } from "../import/floats.ts";
import { importCheckpoint, type ImportOptions } from "../import/index.ts";
import { toSafetensors } from "../to-safetensors.ts";
import { openTorchFile } from "../torch-pickle/reader.ts";
import { TorchTensor } from "../torch-pickle/values.ts";
import { type TensorToWrite, writeTorchFile } from "../torch-pickle/writer.ts";
import { exportCheckpoint, type ExportFormat, type ExportOptions } from "./index.ts";

const { base, writeGoldenBundle, index } = openGolden("own");
const root = mkdtempSync(join(tmpdir(), "rot-export-"));
afterAll(() => rmSync(root, { recursive: true }));
let made = 0;
const place = (): string => join(root, String(made++));

const head = "stage1_mse_only_final.safetensors";
const states = join("global_step7", "mp_rank_00_model_states.pt");
const { "<img_begin>": begin = 0, "<img_end>": end = 0 } = index.ids;

/** A checkpoint of LoRA, made once. */
let lora: Promise<string> | undefined;
const loraBundle = (device: Device): Promise<string> =>
  (lora ??= writeGoldenBundle(device, place(), { head, adapters: "stage2_lora_final.safetensors", step: 7 }));

async function exported(
  device: Device,
  input: string,
  to: ExportFormat,
  more: Partial<ExportOptions> = {},
): Promise<string> {
  const output = place();
  await exportCheckpoint({ input, to, output, device: () => Promise.resolve(device), ...more });
  return output;
}

async function imported(options: Omit<ImportOptions, "base" | "output"> & { readonly base?: string }): Promise<string> {
  const output = place();
  await importCheckpoint({ base, output, ...options });
  return output;
}

/** The one checkpoint of a run, or of the stage 1 in it. */
function checkpointOf(run: string, inside = ""): string {
  const parent = join(run, inside, "checkpoints");
  return join(parent, readdirSync(parent)[0] as string);
}

function expectSameFiles(a: string, b: string, names: readonly string[]): void {
  for (const name of names) {
    expect(Buffer.compare(readFileSync(join(a, name)), readFileSync(join(b, name))), name).toBe(0);
  }
}

/** Logits of a few tokens, those of the markers among them. */
async function logitsOf(path: string, device: Device, ids: readonly number[]): Promise<Float32Array> {
  const bundle = await openBundle(path, device);
  const { model } = bundle.pretrained;
  const hidden = model.forward(model.embed(tensor(device, Int32Array.from(ids), { shape: [1, ids.length] })));
  const logits = await model.logits(hidden).read();
  bundle.dispose();
  return logits as Float32Array;
}

/** A state dict, perhaps changed, as a torch file. */
async function rewrite(from: string, to: string, edit: (tensors: Map<string, TensorToWrite>) => void): Promise<void> {
  await using source = await openFile(from);
  const file = await openTorchFile(source, { name: from });
  const module = (file.value as Map<string, unknown>).get("module") as Map<string, TorchTensor>;
  const shared = new Map<string, TensorToWrite>();
  const tensors = new Map(
    [...module].map(([name, view]): [string, TensorToWrite] => {
      const known = shared.get(view.storage.key) ?? {
        dtype: view.dtype,
        shape: view.shape,
        data: () => file.stream(view),
      };
      shared.set(view.storage.key, known);
      return [name, known];
    }),
  );
  edit(tensors);
  await writeFileAtomically(to, writeTorchFile(new Map([["module", tensors]])));
}

/** The tensor with another sign of its first element. */
async function spoilt({ dtype, shape, data }: TensorToWrite): Promise<TensorToWrite> {
  const parts: Uint8Array[] = [];
  for await (const chunk of typeof data === "function" ? data() : [data]) parts.push(chunk);
  const bytes = new Uint8Array(Buffer.concat(parts));
  const sign = bytes.length / shape.reduce((product, length) => product * length, 1) - 1;
  bytes[sign] = (bytes[sign] as number) ^ 0x80;
  return { dtype, shape, data: bytes };
}

test("LoRA goes out to the published layout and comes back with its bits and its logits", async ({ device }) => {
  const bundle = await loraBundle(device);
  const folder = await exported(device, bundle, "reference");
  expect(readdirSync(folder).toSorted()).toEqual(
    [
      "README.md",
      "global_step7",
      "latest",
      "projection_head.bin",
      "special_tokens.bin",
      "training_state.json",
    ].toSorted(),
  );
  expect(readFileSync(join(folder, "latest"), "utf8")).toBe("global_step7");
  const run = await imported({ stage1: folder, stage2: folder, loraAlpha: index.lora.alpha });
  const back = checkpointOf(run);
  expectSameFiles(back, bundle, ["projection_head.safetensors", "markers.safetensors", "adapter_model.safetensors"]);
  expectSameFiles(checkpointOf(run, "stage1"), bundle, ["projection_head.safetensors", "markers.safetensors"]);
  expect(back).toMatch(/step-0{7}7$/);
  const ids = [1, 2, 3, begin, 4, end, 5];
  expect(await logitsOf(run, device, ids)).toEqual(await logitsOf(bundle, device, ids));
});

test("stage 1 goes out and comes back; without the row of <img>, which is not published, it is drawn", async ({
  device,
}) => {
  const bundle = await writeGoldenBundle(device, place(), { head, step: 3 });
  const folder = await exported(device, bundle, "reference");
  expect(existsSync(join(folder, "latest"))).toBe(false);
  const back = checkpointOf(await imported({ stage1: folder }));
  expectSameFiles(back, bundle, ["projection_head.safetensors", "markers.safetensors"]);

  const published = place();
  cpSync(folder, published, { recursive: true });
  const rows = await openTorch(join(folder, "special_tokens.bin"));
  rows.delete("img_emb");
  await writeFileAtomically(join(published, "special_tokens.bin"), writeTorchFile(rows));
  const notes: string[] = [];
  const drawn = checkpointOf(await imported({ stage1: published, note: (text) => notes.push(text) }));
  expect(notes.join()).toContain("<img>");
  const file = await openSafetensors(fromBytes(readFileSync(join(drawn, "markers.safetensors"))), { name: "markers" });
  const row = decode("F32", await file.read("img"));
  expect(Math.hypot(...row)).toBeCloseTo(Math.sqrt(row.length), 4);
  expect(Math.max(...row.map(Math.abs))).toBeLessThan(5);
});

/** A plain dict of tensors and numbers, ready to be written again. */
async function openTorch(path: string): Promise<Map<string, TensorToWrite | number>> {
  const bytes = readFileSync(path);
  const source = {
    size: bytes.length,
    read: (from: number, to: number) => Promise.resolve(new Uint8Array(bytes.subarray(from, to))),
  };
  const file = await openTorchFile(source, { name: path });
  return new Map(
    [...(file.value as Map<string, TorchTensor | number>)].map(([key, value]) => [
      key,
      value instanceof TorchTensor ? { dtype: value.dtype, shape: value.shape, data: () => file.stream(value) } : value,
    ]),
  );
}

test("a model that was trained in full comes in with its weights, the vision tower where it changed, and goes out again", async ({
  device,
}) => {
  const folder = await exported(device, await loraBundle(device), "reference");
  const full = place();
  cpSync(folder, full, { recursive: true });
  const changed = "vision_encoder.mllm_model.model.visual.merger.norm.weight";
  await rewrite(join(folder, states), join(full, states), (tensors) => {
    const before = [...tensors];
    tensors.clear();
    for (const [name, data] of before) {
      if (name.includes("lora_")) continue;
      tensors.set(name.replace("base_model.model.", "").replace(".base_layer", ""), data);
    }
  });
  const run = await imported({ stage1: full, stage2: full });
  const back = checkpointOf(run);
  const keysOf = async (path: string) => [
    ...(await openSafetensors(fromBytes(readFileSync(join(path, "model.safetensors"))), { name: path })).tensors.keys(),
  ];
  const keys = await keysOf(back);
  expect(keys).toContain("model.language_model.embed_tokens.weight");
  expect(keys.some((key) => key.startsWith("model.visual."))).toBe(false);
  expect(JSON.parse(readFileSync(join(back, "bundle.json"), "utf8"))).toMatchObject({ mode: "full" });

  const again = await exported(device, run, "reference");
  const twice = checkpointOf(await imported({ stage1: again, stage2: again }));
  expectSameFiles(twice, back, ["model.safetensors", "projection_head.safetensors", "markers.safetensors"]);
  const ids = [1, begin, 2, end];
  expect(await logitsOf(run, device, ids)).toEqual(
    await logitsOf(await exported(device, run, "huggingface"), device, ids),
  );

  const other = await spoiltCopy(full, changed);
  const seen = checkpointOf(await imported({ stage1: other, stage2: other }));
  expect(await keysOf(seen)).toContain("model.visual.merger.norm.weight");
});

/** A published folder in which one tensor is {@link spoilt}. */
async function spoiltCopy(folder: string, name: string): Promise<string> {
  const copy = place();
  cpSync(folder, copy, { recursive: true });
  await using source = await openFile(join(folder, states));
  const file = await openTorchFile(source, { name: folder });
  const view = ((file.value as Map<string, unknown>).get("module") as Map<string, TorchTensor>).get(
    name,
  ) as TorchTensor;
  const changed = await spoilt({ dtype: view.dtype, shape: view.shape, data: () => file.stream(view) });
  await rewrite(join(folder, states), join(copy, states), (tensors) => tensors.set(name, changed));
  return copy;
}

test("a checkpoint that does not fit is an error that lists the keys, and leaves nothing behind", async ({
  device,
}) => {
  const folder = await exported(device, await loraBundle(device), "reference");
  const wrapper = "vision_encoder.mllm_model.base_model.model.model.";
  const norm = `${wrapper}language_model.norm.weight`;
  const broken = async (edit: (tensors: Map<string, TensorToWrite>) => void): Promise<string> => {
    const path = join(root, `${made++}.pt`);
    await rewrite(join(folder, states), path, edit);
    return path;
  };
  const cases: [message: RegExp, path: string][] = [
    [
      /missing \(1\):\n +model\.language_model\.norm\.weight$/,
      await broken((t) => void (t.delete(norm), t.delete("language_model.norm.weight"))),
    ],
    [
      /unexpected \(1\):\n +model\.language_model\.extra$/,
      await broken((t) => t.set("language_model.extra", t.get(norm) as TensorToWrite)),
    ],
    [
      /\(1\): it is another base\n.*\n +model\.visual\.merger\.norm\.bias/,
      join(await spoiltCopy(folder, `${wrapper}visual.merger.norm.bias`), states),
    ],
    [/should be one tensor, and differ$/, join(await spoiltCopy(folder, "llm_lm_head.weight"), states)],
    [
      /LoRA of rank \d+.*\n +missing \(1\)/,
      await broken((t) => {
        for (const name of t.keys())
          if (name.endsWith("layers.0.self_attn.k_proj.lora_B.default.weight")) t.delete(name);
      }),
    ],
  ];
  const before = readdirSync(root).length;
  for (const [message, stage2] of cases) {
    const output = join(root, "never");
    const refused = importCheckpoint({ stage1: folder, stage2, base, output });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toBeInstanceOf(WeightError);
  }
  expect(readdirSync(root).length).toBe(before);
  await expect(imported({ stage1: folder })).rejects.toThrow("give it as --stage2");
  await expect(imported({})).rejects.toThrow(UsageError);
  await expect(imported({ stage1: root })).rejects.toThrow("no projection_head.bin");
  await expect(imported({ stage1: folder, base: root })).rejects.toThrow("no config.json");
  await expect(
    importCheckpoint({
      stage1: folder,
      stage2: folder,
      base,
      output: await imported({ stage1: folder, stage2: folder }),
    }),
  ).rejects.toThrow("is there already");
});

test("a row of the whole model wins over stage 1's, and another base's markers are refused", async ({ device }) => {
  const folder = await exported(device, await loraBundle(device), "reference");
  const other = place();
  cpSync(folder, other, { recursive: true });
  const rows = await openTorch(join(folder, "special_tokens.bin"));
  rows.set("img_end_emb", await spoilt(rows.get("img_end_emb") as TensorToWrite));
  await writeFileAtomically(join(other, "special_tokens.bin"), writeTorchFile(rows));
  const notes: string[] = [];
  const run = await imported({ stage1: other, stage2: other, note: (text) => notes.push(text) });
  expect(notes.join()).toContain("img_end");
  const row = async (path: string): Promise<Float64Array> => {
    const file = await openSafetensors(fromBytes(readFileSync(join(path, "markers.safetensors"))), { name: path });
    return decode(file.tensors.get("img_end")?.dtype ?? "F32", await file.read("img_end"));
  };
  const [got, want] = [await row(checkpointOf(run)), await row(await loraBundle(device))];
  expect(Array.from(got, Math.sign)).toEqual(Array.from(want, Math.sign));

  rows.set("img_end_token_id", end + 1);
  await writeFileAtomically(join(other, "special_tokens.bin"), writeTorchFile(rows));
  await expect(imported({ stage1: other })).rejects.toThrow(`tokens ${begin} and ${end + 1}, the tokenizer of`);
});

test("a safetensors conversion of the weights is imported as the torch file is", async ({ device }) => {
  const bundle = await loraBundle(device);
  const folder = await exported(device, bundle, "reference");
  for (const options of [{}, { reference: true, maxShardSize: "200KB" }, { cleanKeys: false }]) {
    const output = place();
    await toSafetensors({ input: join(folder, states), output, ...options });
    const back = checkpointOf(await imported({ stage1: folder, stage2: output }));
    expectSameFiles(back, bundle, ["adapter_model.safetensors", "projection_head.safetensors", "markers.safetensors"]);
    const alone = checkpointOf(await imported({ stage2: output }));
    expectSameFiles(alone, bundle, ["adapter_model.safetensors", "projection_head.safetensors"]);
  }
});

test("a Hugging Face model answers as the checkpoint does, its tokenizer knows the markers, whole and in shards", async ({
  device,
}) => {
  const bundle = await wideRun(device);
  const ids = [1, 2, begin, 3, end, 4];
  const want = await logitsOf(bundle, device, ids);
  const largest = Math.max(...want.map(Math.abs));
  for (const more of [{}, { maxShardSize: "300KB" }]) {
    const folder = await exported(device, bundle, "huggingface", more);
    expect(existsSync(join(folder, "model.safetensors.index.json"))).toBe("maxShardSize" in more);
    const got = await logitsOf(folder, device, ids);
    expect(got.length).toBe(want.length);
    expect(Math.max(...got.map((value, i) => Math.abs(value - (want[i] as number)))) / largest).toBeLessThan(1e-5);
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer.encode("<img_begin>a<img_end>")).toEqual([begin, ...tokenizer.encode("a"), end]);
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as {
      text_config: { vocab_size: number };
    };
    expect(config.text_config.vocab_size).toBe(want.length / ids.length);
    expect(readFileSync(join(folder, "README.md"), "utf8")).toMatch(/^---\n[\s\S]*license: other\n[\s\S]*\n---\n/);
  }
});

test("what has the markers in its own tokenizer goes out and comes back too", async ({ device }) => {
  const model = await exported(device, await loraBundle(device), "huggingface");
  const plain = await exported(device, await loraBundle(device), "reference");
  const stage1 = place();
  cpSync(plain, stage1, { recursive: true });
  for (const name of ["latest", "global_step7"]) rmSync(join(stage1, name), { recursive: true });
  const run = await imported({ stage1, base: model });
  const checkpoint = checkpointOf(run);
  expect(JSON.parse(readFileSync(join(checkpoint, "bundle.json"), "utf8"))).toMatchObject({
    markers: { own: true, begin, end },
  });
  const again = await exported(device, run, "reference");
  expectSameFiles(again, stage1, ["projection_head.bin"]);
  expect((await openTorch(join(again, "special_tokens.bin"))).get("img_end_token_id")).toBe(end);

  const rows = await openTorch(join(plain, "special_tokens.bin"));
  rows.set("img_begin_emb", await spoilt(rows.get("img_begin_emb") as TensorToWrite));
  await writeFileAtomically(join(stage1, "special_tokens.bin"), writeTorchFile(rows));
  await expect(imported({ stage1, base: model })).rejects.toThrow("it is another base");
});

test("an adapter for PEFT has its bits, and names its base; what has none is refused", async ({ device }) => {
  const bundle = await loraBundle(device);
  const folder = await exported(device, bundle, "peft");
  expectSameFiles(folder, bundle, ["adapter_model.safetensors", "projection_head.safetensors", "markers.safetensors"]);
  expect(JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"))).toMatchObject({
    base_model_name_or_path: base,
    r: index.lora.r,
  });
  const stage1 = await writeGoldenBundle(device, place(), { head });
  await expect(exported(device, stage1, "peft")).rejects.toThrow("has no adapter");
  await expect(exported(device, bundle, "peft", { base: root })).rejects.toThrow("--base DIR");
  writeFileSync(join(stage1, "projection_head.safetensors"), "x");
  await expect(exported(device, stage1, "reference")).rejects.toThrow("its manifest says");
});

test("the base may be stored in another dtype: weights are compared by value", async ({ device }) => {
  const run = await wideRun(device);
  expect(JSON.parse(readFileSync(join(checkpointOf(run), "bundle.json"), "utf8"))).toMatchObject({
    mode: "lora",
  });
  const folder = await exported(device, run, "reference");
  const back = checkpointOf(await imported({ stage1: folder, stage2: folder }));
  // The rows of stage 1 agree with the table up to rounding, so they stay as they were.
  expectSameFiles(back, await loraBundle(device), ["adapter_model.safetensors", "markers.safetensors"]);
});

let wide: Promise<string> | undefined;
/** The checkpoint of LoRA on the base in f32, so that merging rounds nothing. */
const wideRun = (device: Device): Promise<string> =>
  (wide ??= (async () => {
    const folder = await exported(device, await loraBundle(device), "reference");
    const copy = place();
    cpSync(base, copy, { recursive: true });
    const file = await openSafetensors(fromBytes(readFileSync(join(base, "model.safetensors"))), { name: base });
    const sources: TensorSource[] = [];
    for (const [name, { shape, dtype }] of file.tensors) {
      const data = encode("F32", decode(dtype, await file.read(name)), name);
      sources.push({ name, shape, dtype: "F32", data });
    }
    await writeFileAtomically(join(copy, "model.safetensors"), writeSafetensors(sources));
    return imported({ stage1: folder, stage2: folder, base: copy, loraAlpha: index.lora.alpha });
  })());
