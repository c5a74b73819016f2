/** An adapter of ours as PEFT's `save_pretrained` writes it. */
import { join } from "node:path";
import { UsageError } from "@rot/tensor";
import type { TensorSource } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { haveRowFile } from "../../bundle/markers.ts";
import { bundleFiles, weightsFile } from "../../bundle/node/contents.ts";
import type { Counter } from "./counting.ts";
import type { ExportSource, ExportTensor } from "./source.ts";
import type { ExportPlan } from "./to-reference.ts";

/**
 * `adapter_config.json` and `adapter_model.safetensors`, and beside them what PEFT does not know: the projection head and
 * the rows of the markers.
 *
 * @param baseName  what PEFT is to put the adapter on: a folder or a name on the hub
 * @throws {UsageError} when the checkpoint has no adapter
 */
export function planPeft(source: ExportSource, counter: Counter, baseName: string): ExportPlan {
  const { adapterConfig, adapter, config, folder: path } = source;
  if (!adapterConfig) {
    throw new UsageError(
      `${path} is a checkpoint of ${config.mode} and has no adapter: export it with --to huggingface`,
    );
  }
  const text = `${JSON.stringify({ ...adapterConfig, base_model_name_or_path: baseName }, null, 2)}\n`;
  const files: [name: string, sources: TensorSource[]][] = [
    [bundleFiles.adapter, sources(adapter, counter)],
    ...latentFiles(source, counter),
  ];
  return {
    names: [...files.map(([name]) => name), bundleFiles.adapterConfig],
    async write(folder) {
      for (const [name, tensors] of files) await writeTensors(join(folder, name), tensors);
      await writeFileAtomically(join(folder, bundleFiles.adapterConfig), [Buffer.from(text)]);
    },
  };
}

/** The files of tensors that make latents, as far as the checkpoint has them. */
export function latentFiles(
  { head, rows, config }: ExportSource,
  counter: Counter,
): [name: string, sources: TensorSource[]][] {
  return [
    ...(head.size > 0 ? [[bundleFiles.head, sources(head, counter)] as [string, TensorSource[]]] : []),
    ...(config.markers && haveRowFile(config.markers)
      ? [[bundleFiles.markers, sources(rows, counter)] as [string, TensorSource[]]]
      : []),
  ];
}

const sources = (tensors: ReadonlyMap<string, ExportTensor>, counter: Counter): TensorSource[] =>
  [...tensors].map(([name, tensor]) => counter.safetensors(name, tensor));

export const writeTensors = (path: string, tensors: readonly TensorSource[]): Promise<number> =>
  writeFileAtomically(path, weightsFile(tensors));
