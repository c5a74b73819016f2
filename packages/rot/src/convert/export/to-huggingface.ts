/** A checkpoint of ours as a model that plain transformers runs: adapters merged, markers among its tokens. */
import { join } from "node:path";
import type { Device } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { indexName, planShards, shardName } from "../shards.ts";
import type { Counter } from "./counting.ts";
import { mergeAdapters } from "./merged.ts";
import type { ExportSource, ExportTensor } from "./source.ts";
import { latentFiles, writeTensors } from "./to-peft.ts";
import type { ExportPlan } from "./to-reference.ts";
import { companionFiles } from "./tokenizer-files.ts";

/** A plan that holds adapters on the device until it is disposed. */
export interface HuggingFacePlan extends ExportPlan {
  readonly dispose: () => void;
}

/**
 * `config.json`, `model.safetensors` or shards with their index, the files of tokenizer and processors, and beside them
 * what transformers does not know: the projection head and the rows of the markers.
 *
 * @param shardBytes  the most bytes of tensors in one file
 */
export async function planHuggingFace(
  source: ExportSource,
  counter: Counter,
  device: Device,
  shardBytes: number,
): Promise<HuggingFacePlan> {
  const { config, base } = source;
  const rows = config.markers?.vocabulary ?? base.description.config.text.V;
  const { model, dispose } = await mergeAdapters(source, rows, device);
  const items = [...model].map(([name, tensor]) => ({
    name,
    bytes: tensor.bytes,
    source: counter.safetensors(name, tensor),
  }));
  const shards = planShards(items, shardBytes).map((entries, i, { length }) => ({
    file: shardName("model", i, length),
    entries,
  }));
  const small = await companionFiles(base.folder, config.markers);
  small.set("config.json", json(configOf(source.describe(rows).json as Json, model)));
  if (shards.length > 1) {
    small.set(
      indexName("model"),
      json({
        metadata: { total_size: items.reduce((sum, { bytes }) => sum + bytes, 0) },
        weight_map: Object.fromEntries(shards.flatMap(({ file, entries }) => entries.map(({ name }) => [name, file]))),
      }),
    );
  }
  const latent = latentFiles(source, counter);
  return {
    names: [...shards.map(({ file }) => file), ...latent.map(([name]) => name), ...small.keys()],
    async write(folder) {
      for (const { file, entries } of shards)
        await writeTensors(
          join(folder, file),
          entries.map((entry) => entry.source),
        );
      for (const [name, tensors] of latent) await writeTensors(join(folder, name), tensors);
      for (const [name, bytes] of small) await writeFileAtomically(join(folder, name), [bytes]);
    },
    dispose,
  };
}

type Json = Readonly<Record<string, unknown>>;

const torchNames: { readonly [D in FileDType]?: string } = {
  F64: "float64",
  F32: "float32",
  BF16: "bfloat16",
  F16: "float16",
};
const widest: readonly FileDType[] = ["F64", "F32", "BF16", "F16"];

/** The configuration, with the dtype that keeps every value: transformers loads all weights in the one that it names. */
function configOf(config: Json, model: ReadonlyMap<string, ExportTensor>): Json {
  const found = new Set([...model.values()].map(({ dtype }) => dtype));
  const dtype = torchNames[widest.find((one) => found.has(one)) ?? "F32"];
  const named = (part: Json): Json =>
    Object.fromEntries(
      Object.entries(part).map(([key, value]) => [key, key === "dtype" || key === "torch_dtype" ? dtype : value]),
    );
  const parts = Object.entries(named(config)).map(([key, value]) => [key, isObject(value) ? named(value) : value]);
  return { ...Object.fromEntries(parts), dtype };
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const json = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
