/** Files of torch.save, what they hold, and files that must be refused, as PyTorch wrote and judged them. */
import { createHash } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { existsSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { WeightError } from "@rot/tensor";
import { fromBytes, openSafetensors } from "@rot/tensor/safetensors";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findStateDict, openTorchFile, toSafetensors, TorchFileError, type TorchTensor } from "./node/index.ts";
import { torchDTypeOf } from "./convert/torch-pickle/dtypes.ts";
import { groupTied } from "./convert/state-dict.ts";
import { countOf, isContiguous } from "./convert/torch-pickle/strided.ts";
import { keyText, type PickleValue, TorchDevice, TorchDType, Tuple } from "./convert/torch-pickle/values.ts";
import { tensorsIn } from "./convert/torch-pickle/walk.ts";

const own = fileURLToPath(new URL("../test/golden/pt_checkpoints", import.meta.url));
const golden = process.env["ROT_GOLDEN_DIR"];
const folder = golden ? resolve(golden, "pt_checkpoints") : own;

interface TensorFacts {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
  readonly storage_offset: number;
  readonly contiguous: boolean;
  readonly sha256: string;
}

const index = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")) as {
  readonly deepspeed: {
    readonly keys: number;
    readonly distinct_storages: number;
    readonly shared_groups: readonly (readonly string[])[];
    /** Of all names, tied or not. */
    readonly parameters: number;
  };
  readonly zoo: {
    readonly files: readonly string[];
    readonly tensors: Readonly<Record<string, TensorFacts>>;
    readonly values: Readonly<Record<string, unknown>>;
  };
  readonly refuse: readonly { readonly file: string; readonly kind: string }[];
};

const open = async (file: string) => openTorchFile(fromBytes(await readFile(join(folder, file))), { name: file });
type File = Awaited<ReturnType<typeof open>>;

async function bytesOf(file: File, tensor: TorchTensor): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of file.stream(tensor)) chunks.push(chunk.slice());
  return Buffer.concat(chunks);
}

/** Every tensor of a safetensors file as text: dtype, shape and bytes. */
async function contents(path: string): Promise<Map<string, string>> {
  const opened = await openSafetensors(fromBytes(await readFile(path)), { name: path });
  const all = new Map<string, string>();
  for (const { name, dtype, shape } of opened.tensors.values()) {
    all.set(name, text(dtype, shape, await opened.read(name)));
  }
  return all;
}
const text = (dtype: string, shape: readonly number[], bytes: Uint8Array): string =>
  `${dtype} [${shape.join()}] ${Buffer.from(bytes).toString("hex")}`;

/** The tensors inside `value` as {@link contents} has those of a file. */
async function contentsOf(file: File, value: PickleValue): Promise<Map<string, string>> {
  const all = new Map<string, string>();
  const fail = (rule: string, message: string): never => {
    throw new Error(`${rule}: ${message}`);
  };
  for (const { name, tensor } of tensorsIn(value, fail)) {
    all.set(name, text(tensor.dtype, tensor.shape, await bytesOf(file, tensor)));
  }
  return all;
}
const sorted = (map: ReadonlyMap<string, string>): [string, string][] =>
  [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));

let scratch = "";
beforeAll(async () => void (scratch = await mkdtemp(join(tmpdir(), "pt-checkpoints-"))));
afterAll(() => rm(scratch, { recursive: true }));

describe.for(index.zoo.files)("%s", (name) => {
  test("every tensor has its dtype, shape, stride, offset and bits", async () => {
    const file = await open(name);
    const facts = Object.fromEntries(
      await Promise.all(
        file.tensors.map(async ({ name: path, tensor }): Promise<[string, TensorFacts]> => [
          path,
          {
            dtype: torchDTypeOf.get(tensor.dtype) ?? tensor.dtype,
            shape: tensor.shape,
            stride: tensor.stride,
            storage_offset: tensor.offset,
            contiguous: isContiguous(tensor),
            sha256: createHash("sha256")
              .update(await bytesOf(file, tensor))
              .digest("hex"),
          },
        ]),
      ),
    );
    expect(facts).toEqual(index.zoo.tensors);
    expect(sorted(await contentsOf(file, file.value))).toEqual(
      sorted(await contents(join(folder, "expected/zoo.safetensors"))),
    );
  });

  test("every plain value is the one that was saved", async () => {
    const { value } = await open(name);
    const root = value as Map<PickleValue, PickleValue>;
    for (const [key, wanted] of Object.entries(index.zoo.values)) {
      const hex = /^(.*)_hex$/.exec(key);
      const integer = /^(-?\d+) \(integer key\)$/.exec(key);
      const found = integer ? root.get(Number(integer[1])) : root.get(hex?.[1] ?? key);
      if (hex) expect(Buffer.from(found as Uint8Array).toString("hex"), key).toBe(wanted);
      else expect(plain(found), key).toEqual(wanted);
    }
  });
});

/** A value as `index.json` writes it. */
function plain(value: PickleValue | undefined): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof TorchDType || value instanceof TorchDevice) return value.name;
  if (value instanceof Tuple) return value.items.map(plain);
  if (value instanceof Set) return [...value].map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [keyText(key), plain(item)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

const latest = readFileSync(join(folder, "latest"), "utf8").trim();
const deepspeed = `${latest}/mp_rank_00_model_states.pt`;

test("the DeepSpeed checkpoint has its names, storages and tied weights", async () => {
  const file = await open(deepspeed);
  const { value, wrapper } = findStateDict(file.value);
  expect(wrapper).toBe("module");
  const inside = tensorsIn(value, () => expect.fail());
  expect(inside).toHaveLength(index.deepspeed.keys);
  expect(new Set(inside.map(({ tensor }) => tensor.storage)).size).toBe(index.deepspeed.distinct_storages);
  const tied = groupTied(inside)
    .map(({ names }) => names)
    .filter((names) => names.length > 1);
  for (const group of index.deepspeed.shared_groups) expect(tied).toContainEqual(group);
  expect(inside.reduce((sum, { tensor }) => sum + countOf(tensor.shape), 0)).toBe(index.deepspeed.parameters);
});

const wrappers = (await readdir(join(folder, "wrappers"))).map((file) => `wrappers/${file}`);
const conversions: readonly (readonly [string, string])[] = [
  [deepspeed, "deepspeed"],
  ["handwritten_ok.pt", "handwritten_ok"],
  ["stage1/projection_head.bin", "projection_head"],
  ["stage1/special_tokens.bin", "special_tokens"],
  ...wrappers.map((file) => [file, "wrappers"] as const),
];

test.for(conversions)("%s converts to expected/%s.safetensors", async ([input, expected]) => {
  const wanted = await contents(join(folder, "expected", `${expected}.safetensors`));
  const full = join(scratch, "full", input);
  const { files } = await toSafetensors({ input: join(folder, input), output: full, reference: true });
  expect(sorted(await contents(files[0] as string))).toEqual(sorted(wanted));

  // Written once, the names that are left out are recorded, and nothing else is missing.
  const lean = await toSafetensors({ input: join(folder, input), output: join(scratch, "lean", input) });
  const found = await contents(lean.files[0] as string);
  for (const [alias, name] of lean.aliases) found.set(alias, found.get(name) as string);
  expect(sorted(found)).toEqual(sorted(wanted));
});

test("the optimizer's moments are those that were saved", async () => {
  const file = await open("stage1/optimizer.bin");
  const wanted = await contents(join(folder, "expected/optimizer.safetensors"));
  const root = file.value as Map<PickleValue, PickleValue>;
  expect(sorted(await contentsOf(file, root.get("optimizer_state_dict") ?? null))).toEqual(sorted(wanted));
});

test.for(index.refuse)("$file is refused", async ({ file, kind }) => {
  const before = await everything(folder);
  const refusal = await read(file).then(
    () => expect.fail(`${file} was read`),
    (error: unknown) => error,
  );
  expect(refusal).toBeInstanceOf(TorchFileError);
  expect(refusal).toBeInstanceOf(WeightError);
  const { rule, message } = refusal as TorchFileError;
  expect(message).toContain(file);
  expect(rules[kind], kind).toContain(rule);
  expect(await everything(folder)).toEqual(before);
  for (const place of [folder, process.cwd()]) expect(existsSync(join(place, "EXECUTED_BY_PICKLE"))).toBe(false);
});

/** The rules that a file of each kind may break. */
const rules: Readonly<Record<string, readonly string[]>> = {
  pickle: ["pickle", "opcode", "global"],
  container: ["container", "checksum"],
  tensor: ["tensor", "global", "container"],
};

async function read(file: string): Promise<void> {
  const opened = await open(file);
  for (const { tensor } of opened.tensors) await bytesOf(opened, tensor);
}

const everything = async (path: string): Promise<string[]> =>
  (await readdir(path, { recursive: true, withFileTypes: true }))
    .map((entry) => relative(path, join(entry.parentPath, entry.name)))
    .toSorted();

test("a refused file leaves nothing of a conversion behind", async () => {
  const work = await mkdtemp(join(scratch, "refuse-"));
  await cp(join(folder, "refuse"), join(work, "in"), { recursive: true });
  for (const { file } of index.refuse) {
    const input = join(work, "in", relative("refuse", file));
    await expect(toSafetensors({ input, output: join(work, "out") }), file).rejects.toThrow(WeightError);
  }
  expect(await readdir(work)).toEqual(["in"]);
});
