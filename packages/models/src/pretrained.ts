/** A model with what it was made of. From a folder: `fromPretrained` of `@rot/models/node`. */
import type { Device, Tensor } from "@rot/tensor";
import { type Lora, withLora } from "./lora/lora.ts";
import { parseQwen3VlConfig, type Qwen3VlConfig } from "./qwen3-vl/config.ts";
import { qwen3Vl } from "./qwen3-vl/qwen3-vl.ts";
import type { VisionLanguageModel } from "./vision-language-model.ts";
import { type Architecture, recordArchitecture } from "./weights/architecture.ts";
import { type InitOptions, randomInit } from "./weights/init.ts";
import { weightsOf } from "./weights/weights.ts";

/** What a `config.json` describes, before there are weights. */
export interface Description {
  /** The parsed `config.json` itself. */
  readonly json: unknown;
  readonly config: Qwen3VlConfig;
  readonly architecture: Architecture;
  /** Keys that checkpoints may hold though the model does not read them. */
  readonly ignored: readonly string[];
}

/** A model and what it was made of. */
export interface Pretrained extends Description {
  readonly model: VisionLanguageModel;
  /** The parameters of the base model by state-dict key. */
  readonly weights: Map<string, Tensor>;
  /** The adapters that the model has. */
  readonly lora: Lora | null;
}

/**
 * What a `config.json` describes.
 *
 * @param json  the parsed file, or one of `presets`
 * @param file  what messages call it
 * @throws {ConfigError} when it is of another architecture or damaged
 */
export function describeModel(json: unknown, file?: string): Description {
  const config = parseQwen3VlConfig(json, file);
  const architecture = recordArchitecture((w) => qwen3Vl(w, config));
  return { json, config, architecture, ignored: config.text.tied ? ["lm_head.weight"] : [] };
}

/** A model over its parameters, which stay the caller's, perhaps with adapters. */
export function buildModel(
  description: Description,
  weights: Map<string, Tensor>,
  device: Device,
  lora: Lora | null = null,
): Pretrained {
  const base = weightsOf(weights, device);
  return { ...description, weights, lora, model: qwen3Vl(lora ? withLora(base, lora) : base, description.config) };
}

/**
 * A model with random weights, for measuring and for training from nothing.
 *
 * @param json  as {@link describeModel} takes it
 * @throws {ConfigError}
 */
export function randomModel(json: unknown, device: Device, options: InitOptions): Pretrained {
  const description = describeModel(json);
  return buildModel(description, randomInit(description.architecture, device, options), device);
}
