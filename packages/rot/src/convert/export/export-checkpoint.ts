/** A checkpoint of ours in other people's formats. */
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Device, UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { type OnProgress, requireSpace, writeFolder } from "../files.ts";
import { parseSize } from "../shards.ts";
import { counting } from "./counting.ts";
import { type ExportFormat, exportFormats, modelCard } from "./model-card.ts";
import { openSource, type SourceOptions } from "./source.ts";
import { planHuggingFace } from "./to-huggingface.ts";
import { planPeft } from "./to-peft.ts";
import { type ExportPlan, planReference } from "./to-reference.ts";

/** What to export, and how. */
export interface ExportOptions extends SourceOptions {
  readonly to: ExportFormat;
  /** The folder to make. */
  readonly output: string;
  /** The most bytes of tensors in one file of a Hugging Face model, such as `5GB`. */
  readonly maxShardSize?: string;
  /** Opens the device on which adapters are merged; asked for by `huggingface` alone. */
  readonly device: () => Promise<Device>;
  readonly onProgress?: OnProgress;
}

/** What was written. */
export interface ExportResult {
  /** The checkpoint that was chosen. */
  readonly checkpoint: string;
  readonly step: number;
  /** Files and folders of the output. */
  readonly files: readonly string[];
  /** Bytes of its tensors. */
  readonly bytes: number;
}

const CARD = "README.md";

/**
 * Exports a checkpoint with a model card. Tensors are streamed from the checkpoint and its base; the folder appears when
 * it is whole.
 *
 * @throws {UsageError} when the format has no place for the checkpoint, or the output holds one of its files
 * @throws {BundleError} when there is no checkpoint, or its base is gone or another model
 * @throws {CheckpointError} when a file is not what was written
 */
export async function exportCheckpoint(options: ExportOptions): Promise<ExportResult> {
  const { to, output, onProgress } = options;
  if (!exportFormats.includes(to))
    throw new UsageError(`--to ${JSON.stringify(to)}: ${exportFormats.join(", ")} wanted`);
  const shardBytes = parseSize(options.maxShardSize ?? "5GB");
  await using source = await openSource(options);
  const counter = counting(onProgress);
  const plans: { readonly [F in ExportFormat]: () => Promise<ExportPlan & { dispose?: () => void }> } = {
    reference: () => planReference(source, counter, options.note ?? (() => {})),
    peft: async () => planPeft(source, counter, options.base ?? source.config.base.path),
    huggingface: async () => planHuggingFace(source, counter, await options.device(), shardBytes),
  };
  const plan = await plans[to]();
  try {
    const card = await modelCard(source, to);
    const names = [...plan.names, CARD];
    await mkdir(dirname(resolve(output)), { recursive: true });
    await requireSpace(dirname(resolve(output)), counter.total);
    await writeFolder(output, names, async (folder) => {
      await plan.write(folder);
      await writeFileAtomically(join(folder, CARD), [Buffer.from(card)]);
    });
    const { folder: checkpoint, step } = source;
    return { checkpoint, step, files: names.map((name) => join(output, name)), bytes: counter.total };
  } finally {
    plan.dispose?.();
  }
}
