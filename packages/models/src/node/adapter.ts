/** Adapter folders as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`. Node only. */
import { join, resolve } from "node:path";
import { type Device, type Tensor, UsageError } from "@rot/tensor";
import { writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { parseAdapterConfig, printAdapterConfig } from "../lora/config.ts";
import { type Lora, loraFrom, loraParameters } from "../lora/lora.ts";
import type { Architecture } from "../weights/architecture.ts";
import { loadCheckpoint } from "../weights/checkpoint.ts";
import { WeightsError } from "../weights/error.ts";
import { tensorSource } from "../weights/pieces.ts";
import { openFiles, readJson } from "./load.ts";
import { replaceFolder, writeText } from "./save.ts";

const configFile = "adapter_config.json";
const weightsFile = "adapter_model.safetensors";

/**
 * The adapters of a folder, in f32.
 *
 * @param linears  those of the base model
 * @throws {WeightsError} when a file is missing or damaged, the configuration asks for what is not built here, or the
 *   tensors are not those that it describes: one error that lists them
 * @throws {SafetensorsError} for a damaged file
 */
export async function loadAdapter(folder: string, linears: Architecture["linears"], device: Device): Promise<Lora> {
  const path = join(folder, configFile);
  const config = parseAdapterConfig(await readJson(path), path);
  const parameters = describedBy(path, () => loraParameters(config, linears));
  await using checkpoint = await openFiles(folder, [weightsFile]);
  const tensors = await loadCheckpoint(checkpoint, { parameters, linears }, device, { dtype: "f32" });
  return loraFrom(config, linears, tensors, join(folder, weightsFile));
}

/** Runs `f`; a pattern that cannot be used or that matches nothing is the file's fault here, not the caller's. */
function describedBy<T>(path: string, f: () => T): T {
  try {
    return f();
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    throw Object.assign(new WeightsError(`${path}: ${cause.message}`), { cause });
  }
}

/**
 * Writes the folder of an adapter, which PEFT loads. It is written aside and renamed.
 *
 * @param options.baseModel  what PEFT is to put the adapter on: a folder or a name on the hub
 * @param options.overwrite  takes the place of a folder that is there already
 * @throws {UsageError} when the folder is not empty and `overwrite` was not asked for
 */
export async function saveAdapter(
  folder: string,
  lora: Lora,
  { baseModel = null, overwrite = false }: { readonly baseModel?: string | null; readonly overwrite?: boolean } = {},
): Promise<void> {
  await replaceFolder(resolve(folder), overwrite, async (aside) => {
    const sources = [...lora.parameters].map(([name, tensor]) => tensorSource(name, tensor as Tensor<"f32">));
    await writeFileAtomically(join(aside, weightsFile), writeSafetensors(sources, new Map([["format", "pt"]])));
    await writeText(join(aside, configFile), printAdapterConfig(lora.config, baseModel));
  });
}
