/** With which configuration an imported checkpoint is trained on: what its files say wins over what somebody wrote. */
import { join, resolve } from "node:path";
import { UsageError } from "@rot/tensor";
import { parse } from "yaml";
import { type ConfigFile, loadConfig, type Override } from "../../config/load.ts";
import { isReferenceConfig } from "../../config/reference.ts";
import type { RunConfig } from "../../config/schema.ts";
import { isThere } from "../../node/paths.ts";
import { readRunData } from "../../train/node/run-data.ts";

/** What the files of a checkpoint say. */
export interface CheckpointFacts {
  readonly stage: "1" | "2";
  /** The folder of the base model. */
  readonly model: string;
  /** Of stage 2, what learnt. */
  readonly mode: RunConfig["stage2"]["mode"] | null;
  readonly head: { readonly hidden: number; readonly activation: RunConfig["head"]["activation"] };
  readonly lora: { readonly r: number; readonly alpha: number; readonly targetModules: readonly string[] } | null;
}

type Fact = readonly [path: string, value: unknown, before: unknown];

/** What else is known. */
export interface RunConfigSources {
  /** Ours, or one of the published configurations. */
  readonly config?: ConfigFile | undefined;
  readonly dataset?: string | undefined;
  /** The run folder to be. */
  readonly output: string;
  readonly note: (text: string) => void;
}

/** A configuration, and whether it is the published code's way of drawing and answering that goes on. */
export interface ImportedConfig {
  readonly config: RunConfig;
  readonly published: boolean;
}

/**
 * What is written first, so that it can be looked at before large files are read.
 *
 * @throws {ConfigurationError} for a file that is none
 * @throws {UsageError} for a file of another stage
 */
export function configBefore({ config: file, note }: Pick<RunConfigSources, "config" | "note">): ImportedConfig {
  const { config, warnings } = loadConfig(file ?? null);
  for (const warning of warnings) note(warning);
  const tree: unknown = file && parse(file.text, { maxAliasCount: 100 });
  const published = !file || (typeof tree === "object" && tree !== null && isReferenceConfig({ ...tree }));
  return { config, published };
}

/**
 * The configuration of the run.
 *
 * @throws {UsageError} when the file is of another stage than the checkpoint
 */
export function configOfRun(
  { config: given, published }: ImportedConfig,
  { stage, model, mode, head, lora }: CheckpointFacts,
  { config: file, dataset, output, note }: RunConfigSources,
): RunConfig {
  if (file && given.stage !== stage && given.stage !== "all") {
    throw new UsageError(
      `${file.name} configures stage ${given.stage}, and the checkpoint is of stage ${stage}: give ${stage === "1" ? "--stage2 too, or the configuration of stage 1" : "the configuration of stage 2"}`,
    );
  }
  const facts: Fact[] = [
    ["head.hidden", head.hidden, given.head.hidden],
    ["head.activation", head.activation, given.head.activation],
  ];
  if (mode !== null) facts.push(["stage2.mode", mode, given.stage2.mode]);
  if (lora) {
    const { target_modules: before } = given.lora;
    const alike = before.toSorted().join() === lora.targetModules.toSorted().join();
    facts.push(
      ["lora.r", lora.r, given.lora.r],
      ["lora.alpha", lora.alpha, given.lora.alpha],
      ["lora.target_modules", alike ? before : lora.targetModules, before],
    );
  }
  for (const [path, value, before] of file ? facts : []) {
    if (JSON.stringify(value) === JSON.stringify(before)) continue;
    note(`${path} is ${JSON.stringify(value)} as in the checkpoint, not ${JSON.stringify(before)} as in ${file?.name}`);
  }
  const own: [path: string, value: unknown][] = [
    ["model", model],
    ["stage", stage],
    ["stage1_checkpoint", stage === "2" ? join(resolve(output), "stage1") : null],
    ["output", null],
    ...facts.map(([path, value]): [string, unknown] => [path, value]),
  ];
  // Those of the checkpoint are read from it; the tables have its rows.
  own.push(["markers.mode", "reference"], ["markers.train", false], ["model_type", "v2"]);
  if (published) own.push(["rendering.encoding", "reference"], ["stage2.answer_style", "reference"]);
  if (dataset !== undefined) own.push(["data.dataset", dataset === "synthetic" ? dataset : resolve(dataset)]);
  const overrides = own.map(([path, value]): Override => ({ path, value, where: "the checkpoint" }));
  return loadConfig(file ?? null, overrides).config;
}

/**
 * The hash of the rows that are trained on, for the manifest; null while nobody has said which they are.
 *
 * @throws {DatasetError | UsageError} for rows that were named and cannot be read
 */
export async function dataOfRun(
  config: RunConfig,
  { dataset, note }: Pick<RunConfigSources, "dataset" | "note">,
): Promise<string | null> {
  const { dataset: named } = config.data;
  const isKnown = named === "synthetic" || (await isThere(named));
  if (isKnown || dataset !== undefined) return (await readRunData(config)).hash;
  const which = named === "tiny" ? "no dataset is named" : `the dataset ${named} is not there`;
  note(`${which}: name one when training goes on, with --dataset`);
  return null;
}
