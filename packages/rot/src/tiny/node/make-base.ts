/** Makes the base that comes with the package. */
import { join } from "node:path";
import { savePretrained } from "@rot/models/node";
import type { Device } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { type Score, scoreChain } from "../evaluate.ts";
import { tinyConfig } from "../model.ts";
import { planTiny } from "../plan.ts";
import { createProblems } from "../problems.ts";
import { createStrips, processorConfig } from "../strips.ts";
import { tinyTokenizer, tokenizerConfig } from "../tokenizer.ts";
import { runner, trainBase, type TinyOptions } from "./run-tiny.ts";

/** What {@link makeBase} takes. */
export interface MakeBaseOptions extends Pick<TinyOptions, "seed" | "folder" | "onProgress" | "signal" | "resume"> {
  readonly device: Device;
}

/**
 * Trains a base and writes its folder as transformers knows it: weights, configurations, tokenizer.
 *
 * @param target  the folder; what is in it is replaced
 * @returns       how well it reasons in text
 */
export async function makeBase(target: string, { device, seed = 0, ...options }: MakeBaseOptions): Promise<Score> {
  const material = { problems: createProblems(), strips: await createStrips(device, await dejaVuSans()) };
  const plan = planTiny({ base: "train", arms: [], secondsPerStep: 0.1, budget: Infinity });
  const base = await trainBase(device, material, seed, runner(options, plan, 0.1));
  await savePretrained(target, base.weights, { config: tinyConfig, overwrite: true });
  const files = {
    "preprocessor_config.json": processorConfig,
    "tokenizer.json": tinyTokenizer(),
    "tokenizer_config.json": tokenizerConfig,
  };
  for (const [name, json] of Object.entries(files)) {
    await writeFileAtomically(join(target, name), [new TextEncoder().encode(`${JSON.stringify(json, null, 1)}\n`)]);
  }
  return await scoreChain(base.model, material.problems.test);
}
