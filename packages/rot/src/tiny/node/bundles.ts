/** The tiny model as folders that evaluation and generation open like any other. Node only. */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describeModel, type Pretrained } from "@rot/models";
import { openCheckpoint, readJson, savePretrained } from "@rot/models/node";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { type BaseRecord, type MarkerRecord, paperStrips } from "../../bundle/config.ts";
import { bundleContents, bundleFiles } from "../../bundle/node/contents.ts";
import { configHash, weightsHash } from "../../bundle/node/fingerprint.ts";
import { isFile } from "../../node/paths.ts";
import type { Contents } from "../../train/checkpoint-folder.ts";
import { type Head, tinyHead } from "../arms.ts";
import { tinyConfig } from "../model.ts";
import { STEPS } from "../problems.ts";
import { FONT_SIZE, processorConfig } from "../strips.ts";
import { tinyTokenizer, tokenizerConfig } from "../tokenizer.ts";
import { marks, spellings } from "../vocabulary.ts";
import { modelFolder, shippedBase } from "./shipped.ts";

/** Writes a tiny model's folder as transformers knows it: weights, configurations, tokenizer. What is in it is replaced. */
export async function writeTinyModel(target: string, { weights }: Pick<Pretrained, "weights">): Promise<void> {
  await savePretrained(target, weights, { config: tinyConfig, overwrite: true });
  const files = {
    "preprocessor_config.json": processorConfig,
    "tokenizer.json": tinyTokenizer(),
    "tokenizer_config.json": tokenizerConfig,
  };
  for (const [name, json] of Object.entries(files)) {
    await writeFileAtomically(join(target, name), [new TextEncoder().encode(`${JSON.stringify(json, null, 1)}\n`)]);
  }
}

const description = describeModel(tinyConfig);
/** The base was taught its markers. */
const markers: MarkerRecord = { own: true, begin: marks.begin, end: marks.done, vocabulary: spellings.length };
const strips = { ...paperStrips, fontSize: FONT_SIZE, thoughtMarkers: false };

/** Makes the files of a checkpoint that thinks: a head on a decoder, which may have adapters. */
export type TinyBundles = (pretrained: Pretrained, head: Head) => () => Contents;

/**
 * What is saved of stages on a base.
 *
 * @param folder  of the run, in which a base that was trained is saved too; null for the one that comes with the package
 */
export async function tinyBundles(base: Pretrained, folder: string | null): Promise<TinyBundles> {
  const own = folder === null ? shippedBase : resolve(folder, "base");
  if (folder !== null) await writeTinyModel(own, base);
  await using checkpoint = await openCheckpoint(own);
  const record: BaseRecord = {
    path: folder === null ? "tiny" : own,
    config: configHash(description),
    weights: await weightsHash(checkpoint),
  };
  return (pretrained, head) => () =>
    bundleContents(
      { base: record, markers, pretrained },
      {
        config: {
          mode: pretrained.lora ? "lora" : "stage1",
          head: tinyHead,
          latents: { budget: STEPS },
          answerStyle: "explicit",
          chain: true,
          strips,
        },
        head: head.parameters,
        lora: pretrained.lora,
      },
    );
}

/**
 * Whether a path means a tiny model: `tiny`, a folder of one, or a run or checkpoint on one. It only looks; what is damaged
 * or not there is none.
 */
export async function isTiny(path: string): Promise<boolean> {
  if (path === "tiny") return true;
  const model = await parsed(join(modelFolder(path), "config.json"));
  if (model !== null) return isTinyConfig(model);
  for (const folder of [path, join(path, "stage2"), join(path, "stage1")]) {
    const steps = (await readdir(join(folder, "checkpoints")).catch(() => [])).filter((name) =>
      name.startsWith("step-"),
    );
    const last = steps.toSorted().at(-1);
    const places = [folder, ...(last === undefined ? [] : [join(folder, "checkpoints", last)])];
    for (const place of places) {
      const bundle = (await parsed(join(place, bundleFiles.config))) as { base?: { config?: unknown } } | null;
      if (bundle) return bundle.base?.config === configHash(description);
    }
  }
  return false;
}

function isTinyConfig(json: unknown): boolean {
  try {
    return configHash(describeModel(json)) === configHash(description);
  } catch {
    return false; // of another architecture
  }
}

const parsed = async (file: string): Promise<unknown> =>
  (await isFile(file)) ? await readJson(file).catch(() => null) : null;
