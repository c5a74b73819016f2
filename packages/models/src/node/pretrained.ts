/** Models from folders. Node only. */
import { join } from "node:path";
import type { Device } from "@rot/tensor";
import { buildModel, describeModel, type Pretrained } from "../pretrained.ts";
import type { LoadOptions } from "../weights/checkpoint.ts";
import { loadAdapter } from "./adapter.ts";
import { loadFolder, readJson } from "./load.ts";

/** What {@link fromPretrained} takes besides the folder. */
export interface PretrainedOptions extends Omit<LoadOptions, "ignored"> {
  /** A folder as PEFT writes it, whose adapters go on the model. */
  readonly adapter?: string;
}

/**
 * Opens a model's folder as it is published: `config.json` of transformers 4 or 5, one safetensors file or shards.
 *
 * @throws {ConfigError} when the config is of another architecture or damaged
 * @throws {WeightsError | SafetensorsError} when a file is missing or damaged, or the tensors are not the model's: one error
 *   lists every missing, unexpected and mis-shaped key
 * @throws {OutOfMemoryError | DeviceLostError}
 */
export async function fromPretrained(
  folder: string,
  device: Device,
  { adapter, ...options }: PretrainedOptions = {},
): Promise<Pretrained> {
  const file = join(folder, "config.json");
  const description = describeModel(await readJson(file), file);
  const { architecture, ignored } = description;
  // First, since it is small: its errors should not wait for the weights.
  const lora = adapter === undefined ? null : await loadAdapter(adapter, architecture.linears, device);
  try {
    const weights = await loadFolder(folder, architecture, device, { ...options, ignored });
    return buildModel(description, weights, device, lora);
  } catch (error) {
    lora?.dispose();
    throw error;
  }
}
