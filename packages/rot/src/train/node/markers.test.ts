/** Markers that learn: from stage 1 through checkpoints, stage 2 and export, whoever the tokens belong to. */
import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { openFiles } from "@rot/models/node";
import { type Device, gatherRows, type Tensor } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll, beforeAll } from "vitest";
import { temporary, tinyModel, tinyRun } from "../../../test/tools/tiny-run.ts";
import { EMBEDDING_KEY } from "../../bundle/markers.ts";
import { openBundle } from "../../bundle/node/index.ts";
import { exportCheckpoint } from "../../convert/export/index.ts";

let folder: Awaited<ReturnType<typeof temporary>>;
beforeAll(async () => {
  folder = await temporary();
});
afterAll(() => folder[Symbol.asyncDispose]());
const at = (...names: string[]): string => join(folder.path, ...names);

const names = ["img_begin", "img_end"];
const settings = { "markers.train": "true", "markers.lr": "0.05", "training.max_steps": "2" };

/** Tensors of a file of a checkpoint. */
async function stored(checkpoint: string, file: string, wanted: readonly string[]): Promise<Float32Array[]> {
  await using opened = await openFiles(checkpoint, [file]);
  const read = async (name: string): Promise<Float32Array> => {
    const { entry, file } = opened.tensors.get(name) as NonNullable<ReturnType<typeof opened.tensors.get>>;
    const bytes = await file.readRange(name, 0, entry.end - entry.begin);
    return new Float32Array(Uint8Array.from(bytes).buffer);
  };
  return Promise.all(wanted.map(read));
}

/** The rows of the markers in the table of a checkpoint, or of a plain model's folder. */
async function inTable(device: Device, path: string, ids: readonly number[]): Promise<Float32Array[]> {
  using bundle = {
    opened: await openBundle(path, device),
    [Symbol.dispose]() {
      this.opened.dispose();
    },
  };
  const table = bundle.opened.pretrained.weights.get(EMBEDDING_KEY) as Tensor;
  expect(table.dtype).toBe("bf16");
  return Promise.all(ids.map(async (id) => (await gatherRows(table, Int32Array.of(id)).read()) as Float32Array));
}

/** As bf16 holds it: to the nearest, halves to even. */
function rounded(values: Float32Array): number[] {
  const words = new Uint32Array(values.slice().buffer);
  for (const [i, word] of words.entries()) words[i] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  return [...new Float32Array(words.buffer)];
}

test("they learn in stage 1, and stage 2, evaluation and export have them", { timeout: 60_000 }, async ({ device }) => {
  const { outcomes } = await tinyRun(device, at("run"), { ...settings, stage: "all" });
  const [first, second] = outcomes.map(({ checkpoint }) => checkpoint as string) as [string, string];
  const learnt = await stored(
    first,
    "parameters.safetensors",
    names.map((name) => `markers.${name}`),
  );
  expect(await stored(first, "markers.safetensors", names)).toEqual(learnt);
  const ids = JSON.parse(await readFile(join(first, "bundle.json"), "utf8")) as {
    markers: { begin: number; end: number; own: boolean; trained: boolean };
  };
  expect(ids.markers).toMatchObject({ own: false, trained: true });
  const places = [ids.markers.begin, ids.markers.end];

  // Without training they would stay as they were drawn.
  const { outcomes: frozen } = await tinyRun(device, at("frozen"), { stage: "1", "training.max_steps": "1" });
  const drawn = await stored(frozen[0]?.checkpoint as string, "markers.safetensors", names);
  for (const [i, row] of learnt.entries()) {
    const moved = row.map((value, d) => Math.abs(value - (drawn[i]?.[d] as number)));
    expect(Math.max(...moved)).toBeGreaterThan(0.01);
  }

  const exported = at("exported");
  await exportCheckpoint({ input: second, to: "huggingface", output: exported, device: () => Promise.resolve(device) });
  for (const path of [first, second, exported]) {
    const rows = await inTable(device, path, places);
    for (const [i, row] of rows.entries()) expect([...row], path).toEqual(rounded(learnt[i] as Float32Array));
  }

  // A base whose own tokens they are is not written to: the rows stand in the checkpoint.
  const { outcomes: own } = await tinyRun(device, at("own"), { ...settings, stage: "1", model: exported });
  const last = own[0]?.checkpoint as string;
  expect(JSON.parse(await readFile(join(last, "bundle.json"), "utf8"))).toMatchObject({
    markers: { own: true, trained: true },
  });
  const again = await stored(last, "markers.safetensors", names);
  const before = await inTable(device, exported, places);
  for (const [i, row] of (await inTable(device, last, places)).entries()) {
    expect([...row]).toEqual(rounded(again[i] as Float32Array));
    expect([...row]).not.toEqual([...(before[i] as Float32Array)]);
  }
});

test("a model with an output matrix of its own is trained in both stages, and its markers have rows there", async ({
  device,
}) => {
  const untied = at("untied");
  await cp(tinyModel, untied, {
    recursive: true,
    filter: (path) => !path.endsWith("/golden") && !path.endsWith("model.safetensors"),
  });
  await cp(join(tinyModel, "sharded_untied"), untied, { recursive: true });
  const { outcomes } = await tinyRun(device, at("untied run"), { ...settings, stage: "all", model: untied });
  const [first, second] = outcomes.map(({ checkpoint }) => checkpoint as string) as [string, string];
  const both = [...names, ...names.map((name) => `lm_head.${name}`)];
  const learnt = await stored(
    first,
    "parameters.safetensors",
    both.map((name) => `markers.${name}`),
  );
  expect(await stored(first, "markers.safetensors", both)).toEqual(learnt);
  const opened = await openBundle(second, device);
  const { weights } = opened.pretrained;
  expect(opened.config.mode).toBe("lora");
  for (const [i, name] of both.entries()) {
    const table = weights.get(name.startsWith("lm_head.") ? "lm_head.weight" : EMBEDDING_KEY) as Tensor;
    const { begin, end } = opened.markers as { begin: number; end: number };
    const row = await gatherRows(table, Int32Array.of(name.endsWith("begin") ? begin : end)).read();
    expect([...(row as Float32Array)], name).toEqual(rounded(learnt[i] as Float32Array));
  }
  opened.dispose();
});

test("reference mode gives the tables as many rows as the tokenizer has", async ({ device }) => {
  const sizes = await Promise.all(
    ["keep", "reference"].map(async (mode) => {
      const { outcomes } = await tinyRun(device, at(mode), {
        stage: "1",
        "training.max_steps": "1",
        "markers.mode": mode,
      });
      const opened = await openBundle(outcomes[0]?.checkpoint as string, device);
      const { vocabulary } = opened.pretrained.model;
      opened.dispose();
      return [vocabulary, opened.markers?.vocabulary];
    }),
  );
  const { text_config: config } = JSON.parse(await readFile(join(tinyModel, "config.json"), "utf8")) as {
    text_config: { vocab_size: number };
  };
  expect(sizes).toEqual([
    [config.vocab_size, config.vocab_size],
    [995, 995],
  ]);
});

test.for<[string, Readonly<Record<string, string>>, RegExp]>([
  [
    "stage 2",
    { stage: "2", stage1_checkpoint: ".", "markers.train": "true" },
    /^markers\.train: markers learn in stage 1/,
  ],
  ["v1", { stage: "1", model_type: "v1", "markers.train": "true" }, /^markers\.train: of model_type v1 the whole/],
  ["a rate for nothing", { stage: "1", "markers.lr": "1" }, /^markers\.lr has no effect without markers\.train=true/],
  ["v1 in stage 2", { stage: "2", model_type: "v1", stage1_checkpoint: "." }, /^model_type v1 has one stage/],
])("settings that do nothing are refused: %s", async ([name, given, message], { device }) => {
  await expect(tinyRun(device, at(name), given)).rejects.toThrow(message);
});
