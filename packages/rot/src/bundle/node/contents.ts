/** The files of a checkpoint that make it a model again, besides the state of training. Node only. */
import { join } from "node:path";
import { type Lora, printAdapterConfig, tensorSource } from "@rot/models";
import { readJson } from "@rot/models/node";
import type { Tensor } from "@rot/tensor";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import type { Contents } from "../../train/checkpoint-folder.ts";
import { type BundleConfig, type MarkerRecord, parseBundleConfig, printBundleConfig } from "../config.ts";
import { haveRowFile, type MarkerRows, readMarkers } from "../markers.ts";
import type { Student } from "./open-student.ts";

/** Names of the files. Adapters are PEFT's, so that PEFT loads the folder too. */
export const bundleFiles = {
  config: "bundle.json",
  head: "projection_head.safetensors",
  markers: "markers.safetensors",
  adapterConfig: "adapter_config.json",
  adapter: "adapter_model.safetensors",
  weights: "model.safetensors",
} as const;

/**
 * Reads the `bundle.json` of a checkpoint.
 *
 * @throws {BundleError} naming the field that is wrong
 */
export async function readBundleConfig(folder: string): Promise<BundleConfig> {
  const file = join(folder, bundleFiles.config);
  return parseBundleConfig(await readJson(file), file);
}

/** What was trained. */
export interface BundleParts {
  readonly config: Omit<BundleConfig, "base" | "markers">;
  /** Parameters of the projection head by their published names. */
  readonly head?: ReadonlyMap<string, Tensor>;
  readonly lora?: Lora | null;
  /** Keys of the base's weights that were trained. */
  readonly trained?: Iterable<string>;
  /** Rows of the markers that were trained, in place of what the tables hold of them in their own dtype. */
  readonly markerRows?: MarkerRows;
}

/** A safetensors file as transformers and PEFT want it: they look for the format in its metadata. */
export const weightsFile = (sources: readonly TensorSource[]): AsyncGenerator<Uint8Array> =>
  writeSafetensors(sources, new Map([["format", "pt"]]));

/** What of a student is written. */
type Saved = Pick<Student, "base" | "markers" | "pretrained">;

type Tensors = Iterable<readonly [name: string, tensor: Tensor]>;

/**
 * The files, for `writeCheckpoint`. Tensors are read from the device when their file is written.
 *
 * @param student  what was trained, as `openStudent` made it
 */
export function bundleContents(student: Saved, { config, head, lora, trained, markerRows }: BundleParts): Contents {
  const { base, markers, pretrained } = student;
  const weights = [...(trained ?? [])].map((key) => [key, pretrained.weights.get(key) as Tensor] as const);
  return {
    [bundleFiles.config]: [Buffer.from(printBundleConfig({ ...config, base, markers }))],
    ...(head && { [bundleFiles.head]: tensors(head) }),
    ...(markers && haveRowFile(markers) && { [bundleFiles.markers]: markerFile(student, markerRows) }),
    ...(lora && {
      [bundleFiles.adapterConfig]: [Buffer.from(printAdapterConfig(lora.config, base.path))],
      [bundleFiles.adapter]: tensors(lora.parameters),
    }),
    ...(weights.length > 0 && { [bundleFiles.weights]: tensors(weights) }),
  };
}

const tensors = (entries: Tensors): AsyncGenerator<Uint8Array> =>
  weightsFile([...entries].map(([name, tensor]) => tensorSource(name, tensor as Tensor<"f32">)));

async function* markerFile(
  { pretrained, markers }: Saved,
  trained: MarkerRows = new Map(),
): AsyncGenerator<Uint8Array> {
  const rows = readMarkers(pretrained.weights, markers as MarkerRecord);
  try {
    yield* tensors(new Map([...rows, ...trained]));
  } finally {
    for (const row of rows.values()) row.dispose();
  }
}
