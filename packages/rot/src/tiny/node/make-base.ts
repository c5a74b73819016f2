/** Makes the base that comes with the package. */
import type { Device } from "@rot/tensor";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { type Score, scoreChain } from "../evaluate.ts";
import { planTiny } from "../plan.ts";
import { createProblems } from "../problems.ts";
import { createStrips } from "../strips.ts";
import { writeTinyModel } from "./bundles.ts";
import { trainBase } from "./run-tiny.ts";
import { runner, type RunnerOptions } from "./runner.ts";

/** What {@link makeBase} takes. */
export interface MakeBaseOptions extends RunnerOptions {
  readonly device: Device;
  /** 0 by default. */
  readonly seed?: number;
}

/**
 * Trains a base and writes its folder as transformers knows it: weights, configurations, tokenizer.
 *
 * @param target  the folder; what is in it is replaced
 * @returns       how well it reasons in text, on validation problems
 */
export async function makeBase(target: string, { device, seed = 0, ...options }: MakeBaseOptions): Promise<Score> {
  const material = { problems: createProblems(), strips: await createStrips(device, await dejaVuSans()) };
  const { stages } = planTiny({ base: "train", arms: [], secondsPerStep: 0.1, budget: Infinity });
  const run = runner(options, () => stages, 0.1);
  const base = await trainBase(device, material, { ...options, seed }, run);
  await writeTinyModel(target, base);
  return await scoreChain(base.model, material.problems.validation);
}
