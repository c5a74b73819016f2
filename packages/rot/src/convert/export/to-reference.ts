/** A checkpoint of ours as the published trainer lays it out, for its evaluation. */
import { mkdir } from "node:fs/promises";
import { join, sep } from "node:path";
import { UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import type { MarkerRecord } from "../../bundle/config.ts";
import { EMBEDDING_KEY, HEAD_KEY } from "../../bundle/markers.ts";
import type { RunConfig } from "../../config/schema.ts";
import { type HeadConfig, headParameters } from "../../methods/rot/head.ts";
import { adaptedPath, publishedNames } from "../import/names.ts";
import { rowKeys } from "../import/published.ts";
import type { WritableValue } from "../torch-pickle/pickle.ts";
import { type TensorToWrite, writeTorchFile } from "../torch-pickle/writer.ts";
import type { Counter } from "./counting.ts";
import { engineState, type Learnt, learntOf, partition, settingsOf, torchOptimizer } from "./optimizer-states.ts";
import type { ExportSource, ExportTensor } from "./source.ts";

/** The files of an export, what depends on others after them, and what writes them into a folder. */
export interface ExportPlan {
  readonly names: readonly string[];
  write(folder: string): Promise<void>;
}

/**
 * `projection_head.bin`, `special_tokens.bin` and, after stage 2, `global_step{N}/mp_rank_00_model_states.pt` with every
 * name that the published trainer gives a tensor. The folder serves as that of stage 1 and as that of stage 2. Where the
 * checkpoint can be trained on there is the optimizer too.
 *
 * @param note  told what the published code has no place for, and can do without
 *
 * @throws {UsageError} for what the published code has no place for
 */
export async function planReference(
  source: ExportSource,
  counter: Counter,
  note: (text: string) => void,
): Promise<ExportPlan> {
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
  const tree = mode === "stage1" ? null : moduleTree(source, await source.model(rows), counter);
  const tag = `global_step${step}`;
  const state = {
    global_step: step,
    stage: tree ? "stage2" : "stage1",
    ...(tree && { use_lora: source.adapter.size > 0 }),
  };
  const files: [name: string, content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>][] = [
    ["projection_head.bin", writeTorchFile(head)],
    ["special_tokens.bin", writeTorchFile(special)],
    ["training_state.json", [Buffer.from(`${JSON.stringify(state, null, 2)}\n`)]],
  ];
  const optimizer = await optimizerOf(source, tree?.order ?? headOrder(source), note);
  if (!tree && optimizer) {
    const { learnt, settings } = optimizer;
    files.push(["optimizer.bin", writeTorchFile(torchOptimizer(learnt, step, settings, counter))]);
  }
  if (tree) {
    const value = new Map<string, WritableValue>([
      ["module", tree.tensors],
      ["global_step", step],
      ...(optimizer ? engineState(optimizer.learnt, step, optimizer.settings) : []),
    ]);
    files.push([join(tag, "mp_rank_00_model_states.pt"), writeTorchFile(value)]);
    if (optimizer) {
      const { learnt, settings } = optimizer;
      const name = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt";
      files.push([join(tag, name), writeTorchFile(partition(learnt, step, settings, counter))]);
    }
    files.push(["latest", [Buffer.from(tag)]]);
  }
  const top = [...new Set(files.map(([name]) => name.split(sep)[0] as string))];
  return {
    names: top,
    async write(folder) {
      if (tree) await mkdir(join(folder, tag));
      for (const [name, content] of files) await writeFileAtomically(join(folder, name), content);
    },
  };
}

/** What learns, and with which settings; null where there are no moments. */
async function optimizerOf(
  { training, folder }: ExportSource,
  order: Order,
  note: (text: string) => void,
): Promise<{ readonly learnt: readonly Learnt[]; readonly settings: RunConfig["optimizer"] } | null> {
  if (!training || training.moments.size === 0) return null;
  const { learnt, unknown } = learntOf(training, order);
  if (unknown.length > 0) {
    note(`the published code does not train ${unknown.slice(0, 3).join(", ")}: their moments are left out`);
  }
  return learnt.length > 0 ? { learnt, settings: await settingsOf(folder, note) } : null;
}

/** Published names in the order of the module tree, with our trainer's names. */
type Order = ReadonlyMap<string, { readonly name: string; readonly shape: readonly number[] }>;

/** The head's parameters alone. */
const headOrder = ({ head, config }: ExportSource): Order =>
  new Map(
    [...headParameters(config.head as HeadConfig).keys()].map((name) => [
      `projection_head.${name}`,
      { name: `head.${name}`, shape: (head.get(name) as ExportTensor).shape },
    ]),
  );

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

/** The state dict: one storage a tensor, however many names it has. And the first names, in their order. */
function moduleTree(
  source: ExportSource,
  model: ReadonlyMap<string, ExportTensor>,
  counter: Counter,
): { readonly tensors: Map<string, TensorToWrite>; readonly order: Order } {
  const { adapter, base } = source;
  const adapted = new Map<string, string[]>();
  for (const key of adapter.keys()) adapted.set(adaptedPath(key), [...(adapted.get(adaptedPath(key)) ?? []), key]);
  const paths = new Set(adapted.keys());
  const own: [string, TensorToWrite][] = [];
  const aliases: [string, TensorToWrite][] = [];
  const order = new Map<string, { readonly name: string; readonly shape: readonly number[] }>();
  const add = (key: string, tensor: TensorToWrite): string => {
    const [first = key, ...others] = publishedNames(key, adapter.size > 0, paths);
    own.push([first, tensor]);
    for (const other of others) aliases.push([other, tensor]);
    return first;
  };
  for (const [key, tensor] of model) {
    const written = counter.torch(tensor);
    order.set(add(key, written), { name: key, shape: tensor.shape });
    if (key === EMBEDDING_KEY && base.description.config.text.tied) add(HEAD_KEY, written);
    for (const name of adapted.get(key.replace(/\.weight$/, "")) ?? []) {
      const matrix = adapter.get(name) as ExportTensor;
      const inner = name.slice("base_model.model.".length).replace(/\.weight$/, ".default.weight");
      order.set(add(inner, counter.torch(matrix)), { name, shape: matrix.shape });
    }
  }
  const heads = [...headTensors(source, counter)].map(([name, tensor]): [string, TensorToWrite] => [
    `projection_head.${name}`,
    tensor,
  ]);
  return { tensors: new Map([...own, ...aliases, ...heads]), order: new Map([...order, ...headOrder(source)]) };
}
