import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, type Tensor, tensor, untaped, zeros } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterEach, beforeEach } from "vitest";
import { goldenFolder } from "../../test/tools/golden-folder.ts";
import { createLora } from "../lora/lora.ts";
import { presets } from "../presets.ts";
import { describeModel, type Pretrained, randomModel } from "../pretrained.ts";
import { ConfigError } from "../qwen3-vl/config.ts";
import { WeightsError } from "../weights/error.ts";
import { saveAdapter } from "./adapter.ts";
import { openCheckpoint, readJson } from "./load.ts";
import { fromPretrained } from "./pretrained.ts";
import { savePretrained } from "./save.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-pretrained-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const small = { ...presets.tiny, text_config: { ...presets.tiny.text_config, vocab_size: 128 } };
const untied = { ...small, tie_word_embeddings: false };

async function logits({ model }: Pretrained, device: Device): Promise<Float32Array> {
  const ids = tensor(device, [[1, 2, 3]], { dtype: "i32" });
  return (await untaped(() => model.logits(model.forward(model.embed(ids)))).read()) as Float32Array;
}

test.for([small, untied])(
  "a saved model opens and computes what it did; tied: $tie_word_embeddings",
  async (json, { device }) => {
    const made = randomModel(json, device, { seed: 1 });
    const target = join(folder, "model");
    await savePretrained(target, made.weights, { config: json });
    const opened = await fromPretrained(target, device);
    expect(opened.weights.has("lm_head.weight")).toBe(!json.tie_word_embeddings);
    expect(opened.json).toEqual(json);
    expect(await logits(opened, device)).toEqual(await logits(made, device));
    const wide = await fromPretrained(target, device, { dtype: "f32" });
    await expect(tensor(device, await logits(wide, device))).toBeClose(await logits(made, device), { absolute: 1e-4 });
  },
);

test.for(["", "sharded_untied"])(
  "a folder that transformers wrote opens, and is saved with the same tensors: /%s",
  async (name, { device }) => {
    const from = join(goldenFolder("qwen3vl_tiny"), name);
    const opened = await fromPretrained(from, device);
    const to = join(folder, "copy");
    await savePretrained(to, opened.weights, { config: opened.json as object, like: from, maxShardBytes: 200_000 });
    await using first = await openCheckpoint(from);
    await using second = await openCheckpoint(to);
    expect([...second.tensors.keys()].toSorted()).toEqual([...first.tensors.keys()].toSorted());
    for (const [key, { entry, file }] of first.tensors) {
      const copy = second.tensors.get(key);
      expect(copy?.entry).toMatchObject({ dtype: entry.dtype, shape: entry.shape });
      expect(Buffer.compare(await file.read(key), (await copy?.file.read(key)) ?? new Uint8Array()), key).toBe(0);
    }
    expect(await readJson(join(to, "config.json"))).toEqual(await readJson(join(from, "config.json")));
  },
);

test("an adapter's folder goes on the model", async ({ device }) => {
  const made = randomModel(small, device, { seed: 1 });
  await savePretrained(join(folder, "model"), made.weights, { config: small });
  const lora = createLora({ r: 2, alpha: 4, targetModules: ["q_proj"] }, made.architecture.linears, device, {
    seed: 2,
  });
  await saveAdapter(join(folder, "adapter"), lora);
  const opened = await fromPretrained(join(folder, "model"), device, { adapter: join(folder, "adapter") });
  expect([...(opened.lora?.parameters.keys() ?? [])]).toEqual([...lora.parameters.keys()]);
  expect(await logits(opened, device)).toEqual(await logits(made, device));
});

test("an output matrix beside a tied embedding is let be; other keys and a config that lies are refused", async ({
  device,
}) => {
  const { weights } = randomModel(small, device, { seed: 1 });
  const target = join(folder, "model");
  const save = (more: [string, Tensor][], config: object = small) =>
    savePretrained(target, new Map([...weights, ...more]), { config, overwrite: true });
  const head: [string, Tensor] = ["lm_head.weight", zeros(device, [128, 64])];
  await save([head]);
  expect((await fromPretrained(target, device)).weights.has("lm_head.weight")).toBe(false);
  await save([["model.visual.extra", zeros(device, [1])]]);
  await expect(fromPretrained(target, device)).rejects.toMatchObject({
    unexpected: ["model.visual.extra"],
    missing: [],
  });
  await save([], untied);
  await expect(fromPretrained(target, device)).rejects.toMatchObject({ missing: ["lm_head.weight"], unexpected: [] });
  await save([head], { ...untied, text_config: { ...small.text_config, intermediate_size: 64 } });
  const error = await fromPretrained(target, device).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(WeightsError);
  expect((error as WeightsError).misshapen.length).toBe(3 * small.text_config.num_hidden_layers);
});

test("what goes wrong frees what was made", async ({ device, ownDevice }) => {
  const { weights, architecture } = randomModel(small, device, { seed: 1 });
  const target = join(folder, "model");
  await savePretrained(target, weights, { config: small });
  const adapter = join(folder, "adapter");
  await saveAdapter(
    adapter,
    createLora({ r: 2, alpha: 4, targetModules: "all-linear" }, architecture.linears, device, { seed: 2 }),
  );
  await cp(target, join(folder, "broken"), { recursive: true });
  await rm(join(folder, "broken", "model.safetensors"));
  await expect(fromPretrained(join(folder, "broken"), ownDevice, { adapter })).rejects.toThrow("holds neither");
  expect(ownDevice.memory().live).toBe(0);
  await writeFile(join(target, "config.json"), '{"model_type": "llama"}');
  await expect(fromPretrained(target, device)).rejects.toThrow(ConfigError);
  await rm(join(target, "config.json"));
  await expect(fromPretrained(target, device)).rejects.toThrow("config.json: it is missing");
});

test("adapters go on every linear of both towers, and on nothing else", () => {
  const { architecture } = describeModel(small);
  const last = new Set([...architecture.linears.keys()].map((path) => path.slice(path.lastIndexOf(".") + 1)));
  const wanted = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
  expect([...last].toSorted()).toEqual([...wanted, "qkv", "proj", "linear_fc1", "linear_fc2"].toSorted());
  expect([...architecture.linears.keys()].filter((path) => path.includes("patch_embed"))).toEqual([]);
});
