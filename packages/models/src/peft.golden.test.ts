/** LoRA adapters against PEFT: merged weights, and the logits without, with and after merging. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Device, type Tensor, tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { goldenFolder, GoldenFile, json, toleranceOf } from "../test/tools/golden-folder.ts";
import { withLora } from "./lora/lora.ts";
import { loadAdapter } from "./node/adapter.ts";
import { loadFolder, readJson } from "./node/load.ts";
import { parseQwen3VlConfig } from "./qwen3-vl/config.ts";
import { qwen3Vl } from "./qwen3-vl/qwen3-vl.ts";
import type { VisionLanguageModel } from "./vision-language-model.ts";
import { recordArchitecture } from "./weights/architecture.ts";
import { type Weights, weightsOf } from "./weights/weights.ts";

const folder = goldenFolder("peft");
const cases = json<readonly { readonly name: string; readonly scaling: number }[]>(folder, "index.json");
const logitTolerance = toleranceOf(folder);
/** As the README states it. */
const weightTolerance = Number(
  /merged weights\s+([\d.]+e-?\d+)/.exec(readFileSync(join(folder, "README.md"), "utf8"))?.[1],
);

/** The logits of the last positions of a text, as [rows, V]. */
function lastLogits(model: VisionLanguageModel, ids: Int32Array, count: number): Tensor {
  return untaped(() => {
    const { positions } = model.layOut([ids], []);
    const embeddings = model.embed(tensor(model.device, ids, { shape: [1, ids.length] }));
    const rows = Int32Array.from({ length: count }, (_, i) => ids.length - count + i);
    return model.logits(model.forward(embeddings, { positions, rows }));
  });
}

async function open(device: Device, name: string) {
  const where = join(folder, name);
  const { base_model_name_or_path: path } = (await readJson(join(where, "adapter_config.json"))) as Record<
    string,
    string
  >;
  const base = join(folder, path as string);
  const config = parseQwen3VlConfig(await readJson(join(base, "config.json")));
  const architecture = recordArchitecture((w) => qwen3Vl(w, config));
  const weights = weightsOf(await loadFolder(base, architecture, device, { dtype: "f32" }), device);
  const lora = await loadAdapter(where, architecture.linears, device);
  const build = (w: Weights): VisionLanguageModel => qwen3Vl(w, config);
  const golden = await GoldenFile.open(folder, `${name}_golden.safetensors`);
  return { architecture, weights, lora, build, golden };
}

test.for(cases)(
  "$name equals PEFT: logits without it, with it and merged, and the merged weights",
  async ({ name }, { device }) => {
    const { architecture, weights, lora, build, golden } = await open(device, name);
    const ids = Int32Array.from((await golden.host("input_ids")).values);
    const compare = async (model: VisionLanguageModel, key: string): Promise<void> => {
      const want = await golden.host(key);
      const [, rows = 0, V = 0] = want.shape;
      const largest = Array.from(want.values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const got = lastLogits(model, ids, rows);
      await expect(got, key).toBeClose(
        { shape: [rows, V], values: want.values },
        { absolute: logitTolerance * largest },
      );
    };
    const adapted = withLora(weights, lora);
    await compare(build(weights), "logits_base_last8");
    await compare(build(adapted), "logits_adapter_last8");

    lora.merge(weights);
    const merged = golden.keys.filter((key) => key.startsWith("merged."));
    // The file keeps those of the second layer, if there is one.
    const isDeep = [...architecture.linears.keys()].some((path) => path.includes("language_model.layers.1."));
    expect(merged.length > 0).toBe(isDeep);
    for (const key of merged) {
      const path = key.slice("merged.".length, -".weight".length);
      const got = weights.at(path).get("weight", architecture.linears.get(path) ?? []);
      await expect(got, key).toBeClose(await golden.host(key), { absolute: weightTolerance });
    }
    await compare(build(adapted), "logits_merged_last8");

    lora.unmerge(weights);
    await compare(build(weights), "logits_base_last8");
  },
);

test.for(cases)("$name has the scaling of PEFT", async ({ name, scaling }, { device }) => {
  const { weights, lora, architecture } = await open(device, name);
  const [[key, A], [, B]] = [...lora.parameters] as [[string, Tensor], [string, Tensor]];
  const path = key.slice("base_model.model.".length, -".lora_A.weight".length);
  const [outputs, inputs] = architecture.linears.get(path) ?? [0, 0];
  const x = tensor(
    device,
    Float32Array.from({ length: inputs }, (_, i) => Math.sin(i)),
    { shape: [1, inputs] },
  );
  const plain = x.matmul(A, { transposeB: true }).matmul(B, { transposeB: true });
  const got = withLora(weights, lora).at(path).adapter?.(x) as Tensor;
  expect(got.shape).toEqual([1, outputs]);
  await expect(got).toBeClose(plain.mul(scaling), { absolute: 1e-5, relative: 1e-5 });
});
