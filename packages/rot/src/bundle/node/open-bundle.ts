/** Opens whatever was trained, for evaluation and generation, without being told how it was made. Node only. */
import { join } from "node:path";
import { type FloatDType, type Lora, weightsOf } from "@rot/models";
import { loadAdapter, openFiles } from "@rot/models/node";
import type { Device } from "@rot/tensor";
import type { LatentSource } from "../../latent/rollout.ts";
import { headParameters, projectionHead } from "../../methods/rot/head.ts";
import { isFile, isFolder } from "../../node/paths.ts";
import { modelFolder } from "../../tiny/node/shipped.ts";
import { verifyCheckpoint } from "../../train/checkpoint-folder.ts";
import { type BundleConfig, BundleError, paperStrips } from "../config.ts";
import { bundleFiles, readBundleConfig } from "./contents.ts";
import { findCheckpoint, type FindOptions } from "./find-checkpoint.ts";
import { openStudent, type Student } from "./open-student.ts";
import { readTensors } from "./read-tensors.ts";

/** What {@link openBundle} takes besides the path. */
export interface OpenBundleOptions extends FindOptions {
  /** Where the base model is, if not where it was when it was trained; `tiny` is the embedded one. */
  readonly base?: string | undefined;
  /** Takes the head and the rows of the markers from this checkpoint of stage 1 instead. */
  readonly stage1?: string | undefined;
  /** Of the base's parameters, and so of the markers' rows; by default as the base is stored. */
  readonly dtype?: FloatDType | undefined;
}

/** A model that reasons, or one that only writes. */
export interface Bundle extends Student {
  /** Of the checkpoint or model folder that was opened. */
  readonly path: string;
  readonly config: BundleConfig;
  /** Makes latents; null where there are none. */
  readonly source: LatentSource | null;
  /** The token that ends an answer. */
  readonly stop: readonly number[];
}

/**
 * Opens a checkpoint, the best or latest one of a run, or the folder of a plain model, which then answers in text; `tiny` is
 * the embedded one.
 *
 * @throws {BundleError} when there is none at the path, its base is gone or another model, or a file is wrong
 * @throws {CheckpointError} when a file is not what was written
 * @throws {ConfigError | WeightsError | TokenizerError | TemplateError} for a damaged base
 */
export async function openBundle(path: string, device: Device, options: OpenBundleOptions = {}): Promise<Bundle> {
  const dtype = options.dtype && { dtype: options.dtype };
  const model = modelFolder(path);
  if (await isFile(join(model, "config.json"))) return openPlain(model, device, dtype);
  const folder = await findCheckpoint(path, options);
  const config = await readConfig(folder);
  const stage1 = options.stage1 === undefined ? folder : await findCheckpoint(await stageOf(options.stage1), options);
  if (stage1 !== folder) checkStage1(config, await readConfig(stage1), stage1);

  const base = modelFolder(options.base ?? config.base.path);
  if (!(await isFile(join(base, "config.json")))) {
    throw new BundleError(
      `${folder} was trained on the model ${base}, and there is none (no config.json): say where it is with --model DIR`,
    );
  }
  const hasWeights = await isFile(join(folder, bundleFiles.weights));
  await using trained = hasWeights ? await openFiles(folder, [bundleFiles.weights]) : undefined;
  const hasAdapter = await isFile(join(folder, bundleFiles.adapterConfig));
  const student = await openStudent(base, device, {
    markers: config.markers ?? "none",
    markerRows: (shapes) => readTensors(stage1, bundleFiles.markers, shapes, device),
    ...(trained && { trained }),
    ...(hasAdapter && { lora: (linears) => loadAdapter(folder, linears, device) as Promise<Lora> }),
    expected: config.base,
    ...dtype,
  });
  try {
    const { width } = student.pretrained.model;
    if (config.head && config.head.width !== width) {
      throw new BundleError(
        `${join(folder, bundleFiles.config)}: head.width is ${config.head.width}, the model's ${width}`,
      );
    }
    const head = config.head && (await readTensors(stage1, bundleFiles.head, headParameters(config.head), device));
    return {
      ...student,
      path: folder,
      config: { ...config, base: student.base },
      source:
        head && config.head
          ? projectionHead(weightsOf(head, device), config.head)
          : config.latents && ((hidden) => hidden),
      stop: [student.tokenizer.eosId],
      dispose() {
        student.dispose();
        for (const parameter of head?.values() ?? []) parameter.dispose();
      },
    };
  } catch (error) {
    student.dispose();
    throw error;
  }
}

/** A model without any training: it answers in text. */
async function openPlain(
  folder: string,
  device: Device,
  dtype: { readonly dtype: FloatDType } | undefined,
): Promise<Bundle> {
  const student = await openStudent(folder, device, { markers: "none", ...dtype });
  const { base } = student;
  const text = { markers: null, head: null, latents: null, chain: true } as const;
  return {
    ...student,
    path: folder,
    config: { mode: "base", base, ...text, answerStyle: "explicit", strips: paperStrips },
    source: null,
    stop: [student.tokenizer.eosId],
  };
}

async function readConfig(folder: string): Promise<BundleConfig> {
  await verifyCheckpoint(folder);
  return await readBundleConfig(folder);
}

function checkStage1(config: BundleConfig, other: BundleConfig, path: string): void {
  const same = (["head", "markers"] as const).every(
    (part) => JSON.stringify(config[part]) === JSON.stringify(other[part]),
  );
  if (!same) throw new BundleError(`${path}: its head or markers are not of the same kind as the checkpoint's own`);
}

/** Stage 1 of a run of several stages; otherwise the path itself. */
async function stageOf(path: string): Promise<string> {
  const inside = join(path, "stage1");
  return (await isFolder(inside)) ? inside : path;
}
