/** The folder of an imported run: as `rot-cli train` lays it out, and what it was made from. */
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { stringify } from "yaml";
import type { BundleMode } from "../../bundle/config.ts";
import type { RunConfig } from "../../config/schema.ts";
import { type Contents, writeCheckpoint } from "../../train/checkpoint-folder.ts";
import { runFiles } from "../../train/node/run-manifest.ts";
import { requireSpace, writeFolder } from "../files.ts";

/** A stage that was imported. */
export interface ImportedStage {
  readonly mode: BundleMode;
  readonly step: number;
  readonly checkpoint: string;
}

/** A run to be. */
export interface Run {
  /** What stage 2 began with. */
  readonly before: { readonly step: number; readonly contents: Contents } | null;
  readonly last: { readonly mode: BundleMode; readonly step: number; readonly contents: Contents };
  /** Bytes of its large tensors. */
  readonly bytes: number;
  /** Null for a run that is not to be trained on. */
  readonly config: RunConfig | null;
  readonly data: string | null;
  /** What else the manifest says. */
  readonly manifest: Readonly<Record<string, unknown>>;
}

/**
 * Writes a run.
 *
 * @throws {UsageError} when the output holds one already
 * @throws an `ENOSPC` error, before anything is written, when the disk is too small
 */
export async function writeRun(
  output: string,
  { before, last, bytes, config, data, manifest }: Run,
): Promise<ImportedStage[]> {
  const parent = dirname(resolve(output));
  await mkdir(parent, { recursive: true });
  await requireSpace(parent, bytes);
  const names = [...(before ? ["stage1"] : []), "checkpoints", ...(config ? [runFiles.config] : []), runFiles.manifest];
  const written: ImportedStage[] = [];
  await writeFolder(output, names, async (aside) => {
    const add = async (folder: string, mode: BundleMode, step: number, contents: Contents): Promise<void> => {
      const path = await writeCheckpoint(join(folder, "checkpoints"), step, contents);
      written.push({ mode, step, checkpoint: join(output, path.slice(aside.length + 1)) });
    };
    if (before) await add(join(aside, "stage1"), "stage1", before.step, before.contents);
    await add(aside, last.mode, last.step, last.contents);
    const write = (name: string, text: string): Promise<unknown> =>
      writeFileAtomically(join(aside, name), [Buffer.from(text)]);
    if (config) await write(runFiles.config, stringify(config));
    const text = {
      format: 1,
      begun: new Date().toISOString(),
      ...(config && { seed: config.seed }),
      ...(data !== null && { data }),
      ...manifest,
    };
    await write(runFiles.manifest, `${JSON.stringify(text, null, 2)}\n`);
  });
  return written;
}
