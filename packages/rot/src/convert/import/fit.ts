/** Whether a published checkpoint fits a base: markers, keys, head and adapters, before anything large is read. */
import { checkKeys, type LoraConfig, loraParameters, WeightsError } from "@rot/models";
import { UsageError } from "@rot/tensor";
import { BundleError } from "../../bundle/config.ts";
import { EMBEDDING_KEY, HEAD_KEY, planMarkers } from "../../bundle/markers.ts";
import { withVocabulary } from "../../bundle/node/open-student.ts";
import { type HeadConfig, headParameters } from "../../methods/rot/head.ts";
import { VISION_TOWER } from "../../train/node/learns.ts";
import type { CheckpointTensor } from "../open-checkpoint.ts";
import type { BaseModel } from "./base-model.ts";
import { adaptedPath } from "./names.ts";
import { type PublishedStage1, type PublishedStates, requireEqual } from "./published.ts";

/** Which rows the markers have, and the model with that many. */
export function planModel(base: BaseModel, stage1: PublishedStage1 | null, states: PublishedStates | null) {
  const { V } = base.description.config.text;
  const plan = planMarkers(base.tokenizer, V, "reference");
  const ids = stage1?.ids;
  if (ids && (ids.begin !== plan.begin || ids.end !== plan.end)) {
    throw new BundleError(
      `${stage1.file} has its markers at the tokens ${ids.begin} and ${ids.end}, the tokenizer of ${base.folder} puts them at ${plan.begin} and ${plan.end}: they are of two models`,
    );
  }
  const rows = states?.model.get(EMBEDDING_KEY)?.shape[0];
  if (rows !== undefined && rows <= plan.end) {
    throw new BundleError(
      `${states?.file} has ${rows} rows in its token table, the tokenizer of ${base.folder} needs ${plan.end + 1}: they are of two models`,
    );
  }
  // A table that was cut is a prefix of the base's, whose own markers are in it.
  const cut = plan.own && !(states && states.adapter.size === 0);
  const markers = { ...plan, vocabulary: cut ? V : (rows ?? plan.vocabulary) };
  return { markers, description: withVocabulary(base.description, rows ?? plan.vocabulary) };
}

/** @throws {WeightsError} that lists every missing, unexpected and mis-shaped key */
export async function checkModel(
  { model, file: where }: PublishedStates,
  { architecture, ignored }: BaseModel["description"],
  base: BaseModel,
): Promise<void> {
  const shapes = new Map([...model].map(([key, { shape }]) => [key, shape]));
  checkKeys(architecture, shapes, `${where}, on the model of ${base.folder}`, ignored);
  const [embedding, output] = [model.get(EMBEDDING_KEY), model.get(HEAD_KEY)];
  if (ignored.length > 0 && embedding && output) await requireEqual(embedding, output, where);
}

/** The head of stage 1, or else the one among the weights. */
export function headOf(stage1: PublishedStage1 | null, states: PublishedStates | null, base: BaseModel) {
  const [head, where] = stage1
    ? [stage1.head, stage1.headFile]
    : [states?.head ?? new Map<string, CheckpointTensor>(), states?.file ?? ""];
  const [width, hidden] = [head.get("0.weight")?.shape[0], head.get("1.weight")?.shape[0]];
  const { D } = base.description.config.text;
  const config: HeadConfig = { width: width ?? D, hidden: hidden ?? 1, activation: "swiglu" };
  const shapes = new Map([...head].map(([name, { shape }]) => [name, shape]));
  checkKeys({ parameters: headParameters(config), linears: new Map() }, shapes, `${where}, as a projection head`);
  if (width !== D) {
    throw new BundleError(
      `${where}: the head is for a decoder ${width} wide, ${base.folder} is ${D} wide: they are of two models`,
    );
  }
  return { head, config };
}

/** @throws {WeightsError} when the adapters are not all of one rank, on every linear of their names */
export function loraOf(
  { adapter, file: where }: PublishedStates,
  { architecture }: BaseModel["description"],
  { alpha, dropout }: { readonly alpha: number; readonly dropout: number },
): LoraConfig {
  const [r = 1] = [...adapter].find(([key]) => key.endsWith(".lora_A.weight"))?.[1].shape ?? [];
  const targets = new Set([...adapter.keys()].map((key) => adaptedPath(key).split(".").at(-1) as string));
  const config: LoraConfig = {
    r,
    alpha,
    dropout,
    targetModules: [...targets],
    excludeModules: VISION_TOWER,
  };
  let parameters: ReturnType<typeof loraParameters>;
  try {
    parameters = loraParameters(config, architecture.linears);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new WeightsError(`${where}: ${error.message}`);
  }
  const shapes = new Map([...adapter].map(([key, { shape }]) => [key, shape]));
  checkKeys({ parameters, linears: architecture.linears }, shapes, `${where}, LoRA of rank ${r}`);
  return config;
}
