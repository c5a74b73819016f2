/** Qwen3-VL against transformers, layer by layer: a failure names the first place that differs. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { linearCrossEntropy } from "@rot/kernels";
import { type Device, keep, requireGrad, tensor, type Tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { describe } from "vitest";
import {
  checkpointTensors,
  GoldenFile,
  goldenFolder,
  type HostTensor,
  json,
  toleranceOf,
} from "../test/tools/golden-folder.ts";
import type { Span } from "./kv-cache.ts";
import { parseQwen3VlConfig, type Qwen3VlConfig } from "./qwen3-vl/config.ts";
import { qwen3Vl } from "./qwen3-vl/qwen3-vl.ts";
import { visionRotation } from "./qwen3-vl/rotation.ts";
import { patchesOf } from "./qwen3-vl/patches.ts";
import type { Grid, ImageFeatures, Observe, VisionLanguageModel } from "./vision-language-model.ts";
import { weightsOf } from "./weights/weights.ts";

interface Case {
  readonly case: string;
}

interface Index {
  readonly vision: readonly Case[];
  readonly text: readonly Case[];
  readonly image_text: readonly Case[];
  readonly generate: readonly { readonly file: string; readonly inputs: string }[];
  readonly train: { readonly parameters_without_gradient: readonly string[] };
}

const folder = goldenFolder("qwen3vl_tiny");
const golden = join(folder, "golden");
const index = json<Index>(golden, "index.json");
const tolerance = toleranceOf(folder);

interface Opened {
  readonly config: Qwen3VlConfig;
  readonly parameters: Map<string, Tensor>;
  readonly model: VisionLanguageModel;
}

/** @param trains  holds parameters in f32 whatever the checkpoint stores: gradients come in the dtype of what they are of */
async function open(device: Device, at = folder, trains = false): Promise<Opened> {
  const config = parseQwen3VlConfig(json(at, "config.json"), join(at, "config.json"));
  const stored = await checkpointTensors(device, at);
  const parameters = trains ? new Map([...stored].map(([name, values]) => [name, values.to("f32")])) : stored;
  return { config, parameters, model: qwen3Vl(weightsOf(parameters, device), config) };
}

/** max|got − want| / max|want| over the rows that hold tokens. Any NaN makes it NaN. */
async function errorOf(got: Tensor, want: HostTensor, isToken: (row: number) => boolean = () => true): Promise<number> {
  expect(got.shape).toEqual(want.shape);
  const values = await got.read();
  const width = want.shape.at(-1) ?? 1;
  let worst = 0;
  let scale = 0;
  for (const [i, value] of values.entries()) {
    if (!isToken(Math.floor(i / width))) continue;
    const expected = want.values[i] as number;
    worst = Math.max(worst, Math.abs(value - expected));
    scale = Math.max(scale, Math.abs(expected));
  }
  return worst / (scale || 1);
}

/** Keeps what a model shows of itself, by name. */
function recorder(): { seen: Map<string, Tensor>; observe: Observe } {
  const seen = new Map<string, Tensor>();
  return { seen, observe: (name, value) => void seen.set(name, keep(value.alias())) };
}

/** Pixel values of images that need no resize: see golden/image_processor. */
function pixelsOf(device: Device, images: readonly HostTensor[], { vision }: Qwen3VlConfig) {
  const { patch, frames, channels, merge } = vision;
  const grids = images.map(({ shape }): Grid => [1, (shape[0] as number) / patch, (shape[1] as number) / patch]);
  const width = channels * frames * patch * patch;
  const rows: number[] = [];
  for (const [i, { values, shape }] of images.entries()) {
    const places = patchesOf([grids[i] as Grid], merge);
    for (const [p, row] of places.rows.entries()) {
      for (let j = 0; j < width; j++) {
        const x = (places.columns[p] as number) * patch + (j % patch);
        const y = row * patch + (Math.floor(j / patch) % patch);
        const channel = Math.floor(j / (patch * patch * frames));
        rows.push(((values[(y * (shape[1] as number) + x) * channels + channel] as number) - 127.5) / 127.5);
      }
    }
  }
  return { grids, pixels: tensor(device, Float32Array.from(rows), { shape: [rows.length / width, width] }) };
}

async function imagesOf(file: GoldenFile, prefix: string): Promise<HostTensor[]> {
  const images: HostTensor[] = [];
  for (let j = 0; file.has(`${prefix}image_${j}`); j++) images.push(await file.host(`${prefix}image_${j}`));
  return images;
}

/** Compares in the order given, and asks that nothing of the file is left over. */
async function compare(
  file: GoldenFile,
  prefix: string,
  results: readonly (readonly [key: string, got: Tensor | undefined])[],
  inputs: RegExp,
  isToken?: (row: number) => boolean,
): Promise<void> {
  const left = new Set(file.keys.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length)));
  for (const [key, got] of results) {
    if (!left.delete(key)) continue;
    if (!got) throw new Error(`${prefix}${key}: the model showed nothing of that name`);
    const error = await errorOf(got, await file.host(prefix + key), isToken);
    expect(error, prefix + key).toBeLessThanOrEqual(tolerance);
  }
  expect(
    [...left].filter((key) => !inputs.test(key)),
    "tensors that nothing was compared with",
  ).toEqual([]);
}

test.for(index.vision.map(({ case: name }) => name))(
  "the vision tower agrees at every step: %s",
  async (name, { device }) => {
    const { config, model } = await open(device);
    const file = await GoldenFile.open(golden, "vision.safetensors");
    const prefix = `${name}.`;
    const { pixels, grids } = pixelsOf(device, await imagesOf(file, prefix), config);
    expect(grids, "grids").toEqual(await file.rows(`${prefix}image_grid_thw`));
    const places = patchesOf(grids, config.vision.merge);
    const order = Array.from(places.rows, (row, i) => [row, places.columns[i]]);
    expect(order, "rope_position_ids").toEqual(await file.rows(`${prefix}rope_position_ids`));

    const { seen, observe } = recorder();
    const { tokens, deepstack } = model.imageFeatures(pixels, grids, { observe });
    const { cos, sin } = visionRotation(device, grids, config.vision);
    const { depth } = config.vision;
    await compare(
      file,
      prefix,
      [
        ["pixel_values", pixels],
        ["patch_embed", seen.get("patch_embed")],
        ["pos_embed", seen.get("pos_embed")],
        ["rope_cos", cos],
        ["rope_sin", sin],
        ["block_0.input", seen.get("blocks.0.input")],
        ...Array.from({ length: depth }, (_, i) => [`block_${i}.output`, seen.get(`blocks.${i}`)] as const),
        ["last_block", seen.get(`blocks.${depth - 1}`)],
        ...deepstack.map((feature, i) => [`deepstack_${i}`, feature] as const),
        ["merged", tokens],
      ],
      /^image_|^rope_position_ids$/,
    );
  },
);

/** A batch of a file: tokens, images, where they stand, and what the decoder is told. */
async function batchOf(opened: Opened, file: GoldenFile, prefix: string) {
  const { model, config } = opened;
  const ids = await file.rows(`${prefix}input_ids`);
  const L = (ids[0] as number[]).length;
  const mask = file.has(`${prefix}attention_mask`) ? await file.rows(`${prefix}attention_mask`) : null;
  const valid = ids.map((_, b): Span => {
    const row = mask?.[b];
    return row ? [row.indexOf(1), row.lastIndexOf(1) + 1] : [0, L];
  });
  const images = await imagesOf(file, prefix);
  const { pixels, grids } = images.length > 0 ? pixelsOf(model.device, images, config) : { pixels: null, grids: [] };
  const layout = model.layOut(ids, grids, valid);
  const isToken = (row: number): boolean => {
    const [begin, end] = valid[Math.floor(row / L)] as Span;
    return row % L >= begin && row % L < end;
  };
  await checkLayout(file, prefix, layout, grids, isToken);
  const features = (): ImageFeatures | null => pixels && model.imageFeatures(pixels, grids);
  const embeddings = (): Tensor => model.embed(ids);
  const options = (found: ImageFeatures | null) => ({
    valid,
    positions: layout.positions,
    ...(found && { images: { ...found, rows: layout.imageRows } }),
  });
  return { ids, L, valid, layout, isToken, features, embeddings, options };
}

async function checkLayout(
  file: GoldenFile,
  prefix: string,
  { positions, imageRows }: ReturnType<VisionLanguageModel["layOut"]>,
  grids: readonly Grid[],
  isToken: (row: number) => boolean,
): Promise<void> {
  const plane = positions.length / 3;
  const real = (values: ArrayLike<number>): number[] => Array.from(values).filter((_, i) => isToken(i % plane));
  if (file.has(`${prefix}image_grid_thw`)) expect(grids).toEqual(await file.rows(`${prefix}image_grid_thw`));
  if (file.has(`${prefix}position_ids`)) {
    expect(real(positions), "position_ids").toEqual(real((await file.host(`${prefix}position_ids`)).values));
  }
  if (file.has(`${prefix}mm_token_type_ids`)) {
    const types = Array.from((await file.host(`${prefix}mm_token_type_ids`)).values);
    expect(Array.from(imageRows), "mm_token_type_ids").toEqual(types.flatMap((type, row) => (type === 1 ? [row] : [])));
  }
}

/** Which rows of [B, L] are the last `count` of each sequence. */
const lastRows = (B: number, L: number, count: number): Int32Array =>
  Int32Array.from({ length: B * count }, (_, i) => Math.floor(i / count) * L + (L - count) + (i % count));

describe.for(["text", "image_text"] as const)("the decoder agrees at every layer: %s", (kind) => {
  test.for(index[kind].map(({ case: name }) => name))("%s", async (name, { device }) => {
    const opened = await open(device);
    const { model, config } = opened;
    const file = await GoldenFile.open(golden, `${kind}.safetensors`);
    const prefix = `${name}.`;
    const batch = await batchOf(opened, file, prefix);
    const B = batch.ids.length;
    const { seen, observe } = recorder();
    const hidden = model.forward(batch.embeddings(), { ...batch.options(batch.features()), observe });
    const layers = Array.from({ length: config.text.layers }, (_, i) => i).flatMap((i) => [
      [`layer_${i}.input`, seen.get(`layers.${i}.input`)] as const,
      [`layer_${i}.output`, seen.get(`layers.${i}`)] as const,
    ]);
    const inputs = /^image_|^input_ids$|^attention_mask$|^position_ids$|^mm_token_type_ids$|^rope_deltas$|^logits_last/;
    await compare(
      file,
      prefix,
      [...layers, ["last_hidden_state", hidden], ["logits", model.logits(hidden)]],
      inputs,
      batch.isToken,
    );

    for (const key of file.keys.filter((key) => key.startsWith(`${prefix}logits_last`))) {
      const count = Number(key.slice(`${prefix}logits_last`.length));
      const rows = lastRows(B, batch.L, count);
      const logits = model.logits(model.forward(batch.embeddings(), { ...batch.options(batch.features()), rows }));
      const isToken = (row: number): boolean => batch.isToken(rows[row] as number);
      expect(await errorOf(logits.reshape(B, count, -1), await file.host(key), isToken), key).toBeLessThanOrEqual(
        tolerance,
      );
    }
  });
});

test.for(index.generate)("greedy decoding through the cache gives the same tokens: $file", async (run, { device }) => {
  const opened = await open(device);
  const { model } = opened;
  const file = await GoldenFile.open(golden, run.file);
  const elsewhere = /^(\S+\.safetensors) (\S+)$/.exec(run.inputs);
  const source = elsewhere ? await GoldenFile.open(golden, elsewhere[1] as string) : file;
  const batch = await batchOf(opened, source, elsewhere ? `${elsewhere[2]}.` : "");
  const B = batch.ids.length;
  const wanted = await file.rows("new_tokens");
  const steps = (wanted[0] as number[]).length;

  const cache = model.newCache(B, { block: 16 });
  const last = Int32Array.from(batch.valid, ([, end], b) => b * batch.L + end - 1);
  const told = { ...batch.options(batch.features()), cache, rows: last };
  const logits: Tensor[] = [];
  const tokens: number[][] = batch.ids.map(() => []);
  for (let step = 0; step < steps; step++) {
    const next = untaped(() => {
      if (step === 0) return model.forward(batch.embeddings(), told);
      return model.forward(model.embed(tokens.map((row) => [row.at(-1) as number])), { cache }).reshape(B, -1);
    });
    logits.push(model.logits(next));
    for (const [b, id] of (await (logits.at(-1) as Tensor).argmax(-1).read()).entries()) tokens[b]?.push(id);
  }
  for (const key of file.keys.filter((key) => key.startsWith("logits_of_first_"))) {
    const want = await file.host(key);
    const [, count = 0, V = 0] = want.shape;
    for (let step = 0; step < count; step++) {
      const values = Float32Array.from({ length: B * V }, (_, i) => {
        return want.values[(Math.floor(i / V) * count + step) * V + (i % V)] as number;
      });
      const error = await errorOf(logits[step] as Tensor, { shape: [B, V], values });
      expect(error, `${key}, step ${step}`).toBeLessThanOrEqual(tolerance);
    }
  }
  expect(tokens).toEqual(wanted);
  cache.dispose();
});

test.for([false, true])(
  "a training batch has the same loss and gradients, recompute: %s",
  async (recompute, { device }) => {
    const opened = await open(device, folder, true);
    const { model, parameters } = opened;
    for (const parameter of parameters.values()) requireGrad(parameter);
    const file = await GoldenFile.open(golden, "train.safetensors");
    const batch = await batchOf(opened, file, "");
    const images = batch.features();
    const hidden = model.forward(batch.embeddings(), { ...batch.options(images), recompute });
    const labels = await file.rows("labels");
    const next = Int32Array.from(labels.flatMap((row) => [...row.slice(1), -100]));

    const supervised = Int32Array.from(next.keys()).filter((row) => next[row] !== -100);
    const logits = model.logits(hidden.detach().flatten(0, 1).gatherRows(supervised));
    expect(await errorOf(logits, await file.host("logits_of_labels")), "logits").toBeLessThanOrEqual(tolerance);
    const loss = linearCrossEntropy(hidden, model.head, next);
    expect(await errorOf(loss.reshape(1), await file.host("loss")), "loss").toBeLessThanOrEqual(tolerance);

    loss.backward();
    const gradients = await GoldenFile.open(golden, "train_grads.safetensors");
    for (const [name, parameter] of parameters) {
      const isWithout = index.train.parameters_without_gradient.includes(name);
      expect(parameter.grad === null, `${name} has no gradient`).toBe(isWithout);
    }
    for (const name of gradients.keys) {
      const { grad } = parameters.get(name) as Tensor;
      const error = await errorOf(grad as Tensor, await gradients.host(name));
      expect(error, `gradient of ${name}`).toBeLessThanOrEqual(tolerance);
    }
  },
);

/** Other checkpoints beside it, of which only the logits are known. */
const others = readdirSync(folder).filter((name) => existsSync(join(folder, name, "golden.safetensors")));

test.for(others)("the logits agree: %s", async (name, { device }) => {
  const opened = await open(device, join(folder, name));
  const file = await GoldenFile.open(folder, name, "golden.safetensors");
  const batch = await batchOf(opened, file, "");
  const logits = opened.model.logits(opened.model.forward(batch.embeddings(), batch.options(batch.features())));
  expect(await errorOf(logits, await file.host("logits"), batch.isToken)).toBeLessThanOrEqual(tolerance);
});
