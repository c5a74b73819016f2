/** A checkpoint of ours as the published trainer lays it out, for its evaluation. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import type { MarkerRecord } from "../../bundle/config.ts";
import { type HeadConfig, headParameters } from "../../methods/rot/head.ts";
import { adaptedPath, publishedNames } from "../import/names.ts";
import { rowKeys } from "../import/published.ts";
import type { WritableValue } from "../torch-pickle/pickle.ts";
import { type TensorToWrite, writeTorchFile } from "../torch-pickle/writer.ts";
import type { Counter } from "./counting.ts";
import type { ExportSource, ExportTensor } from "./source.ts";

/** The files of an export, what depends on others after them, and what writes them into a folder. */
export interface ExportPlan {
  readonly names: readonly string[];
  write(folder: string): Promise<void>;
}

/**
 * `projection_head.bin`, `special_tokens.bin` and, after stage 2, `global_step{N}/mp_rank_00_model_states.pt` with every
 * name that the published trainer gives a tensor. The folder serves as that of stage 1 and as that of stage 2.
 *
 * @throws {UsageError} for what the published code has no place for
 */
export async function planReference(source: ExportSource, counter: Counter): Promise<ExportPlan> {
  const { config, base, step, folder: path } = source;
  const { markers, mode } = config;
  if (!markers || !config.head) {
    throw new UsageError(
      `${path} has no projection head: the published code evaluates nothing else; export it with --to huggingface`,
    );
  }
  if (config.head.activation !== "swiglu") {
    throw new UsageError(`${path} has a head with ${config.head.activation}, and the published code knows swiglu only`);
  }
  // The published code cuts the tables to the tokenizer, at whose end it has put its markers.
  const rows = base.tokenizer.size;
  if (markers.end >= rows) {
    throw new UsageError(
      `${base.folder}: ids of the tokenizer have gaps, so that the published code would cut off its token ${markers.end}`,
    );
  }
  const head = headTensors(source, counter);
  const special = specialTokens(source, markers, counter);
  const states = mode === "stage1" ? null : moduleTree(source, await source.model(rows), counter);
  const tag = `global_step${step}`;
  const state = {
    global_step: step,
    stage: states ? "stage2" : "stage1",
    ...(states && { use_lora: source.adapter.size > 0 }),
  };
  const files: [name: string, content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>][] = [
    ["projection_head.bin", writeTorchFile(head)],
    ["special_tokens.bin", writeTorchFile(special)],
    ["training_state.json", [Buffer.from(`${JSON.stringify(state, null, 2)}\n`)]],
  ];
  if (states) {
    const value = new Map<string, WritableValue>([
      ["module", states],
      ["global_step", step],
    ]);
    files.push([join(tag, "mp_rank_00_model_states.pt"), writeTorchFile(value)], ["latest", [Buffer.from(tag)]]);
  }
  return {
    names: ["projection_head.bin", "special_tokens.bin", "training_state.json", ...(states ? [tag, "latest"] : [])],
    async write(folder) {
      if (states) await mkdir(join(folder, tag));
      for (const [name, content] of files) await writeFileAtomically(join(folder, name), content);
    },
  };
}

const headTensors = ({ head, config }: ExportSource, counter: Counter): Map<string, TensorToWrite> =>
  // In the order of the published file.
  new Map(
    [...headParameters(config.head as HeadConfig).keys()].map((name) => [
      name,
      counter.torch(head.get(name) as ExportTensor),
    ]),
  );

/** Beside what is published, the rows that are not, so that an import has them all; the published code reads by key. */
function specialTokens(
  { rows }: ExportSource,
  { begin, end }: MarkerRecord,
  counter: Counter,
): Map<string, WritableValue> {
  const found = [...rowKeys].flatMap(([key, name]): [string, TensorToWrite][] => {
    const row = rows.get(name);
    return row ? [[key, counter.torch(row)]] : [];
  });
  return new Map<string, WritableValue>([...found, ["img_begin_token_id", begin], ["img_end_token_id", end]]);
}

/** The state dict: one storage a tensor, however many names it has. */
function moduleTree(
  source: ExportSource,
  model: ReadonlyMap<string, ExportTensor>,
  counter: Counter,
): Map<string, TensorToWrite> {
  const { adapter, base } = source;
  const adapted = new Map<string, string[]>();
  for (const key of adapter.keys()) adapted.set(adaptedPath(key), [...(adapted.get(adaptedPath(key)) ?? []), key]);
  const paths = new Set(adapted.keys());
  const own: [string, TensorToWrite][] = [];
  const aliases: [string, TensorToWrite][] = [];
  const add = (key: string, tensor: TensorToWrite): void => {
    const [first = key, ...others] = publishedNames(key, adapter.size > 0, paths);
    own.push([first, tensor]);
    for (const other of others) aliases.push([other, tensor]);
  };
  for (const [key, tensor] of model) {
    const written = counter.torch(tensor);
    add(key, written);
    if (key === "model.language_model.embed_tokens.weight" && base.description.config.text.tied)
      add("lm_head.weight", written);
    for (const name of adapted.get(key.replace(/\.weight$/, "")) ?? []) {
      const matrix = counter.torch(adapter.get(name) as ExportTensor);
      add(name.slice("base_model.model.".length).replace(/\.weight$/, ".default.weight"), matrix);
    }
  }
  const heads = [...headTensors(source, counter)].map(([name, tensor]): [string, TensorToWrite] => [
    `projection_head.${name}`,
    tensor,
  ]);
  return new Map([...own, ...aliases, ...heads]);
}
