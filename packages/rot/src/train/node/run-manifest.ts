/** `config.yaml`, from which a run can be repeated, and `run.json`, which says what it was made of. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Device, UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { stringify } from "yaml";
import { loadConfig } from "../../config/load.ts";
import type { RunConfig } from "../../config/schema.ts";
import { onDisk } from "../disk-error.ts";

/** Names of the files in a run folder. */
export const runFiles = { config: "config.yaml", manifest: "run.json" } as const;

/** Writes both. */
export async function writeManifest(
  output: string,
  config: RunConfig,
  { name, kind }: Device,
  dataHash: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const write = (file: string, text: string): Promise<void> => writeText(join(output, file), text);
  const manifest = {
    format: 1,
    begun: new Date().toISOString(),
    adapter: { name, kind },
    seed: config.seed,
    data: dataHash,
    ...more,
  };
  await writeConfig(output, config);
  await write(runFiles.manifest, `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Writes the configuration alone: what a run that is resumed next goes on with. */
export const writeConfig = (output: string, config: RunConfig): Promise<void> =>
  writeText(join(output, runFiles.config), stringify(config));

const writeText = (path: string, text: string): Promise<void> =>
  onDisk(`${path} cannot be written`, async () => {
    await writeFileAtomically(path, [Buffer.from(text)]);
  });

/**
 * The configuration of the run that a checkpoint is in, itself or by its stage.
 *
 * @returns null for a checkpoint that lies by itself
 * @throws {ConfigurationError} when it is damaged
 */
export async function runConfigOf(checkpoint: string): Promise<RunConfig | null> {
  for (const above of ["../..", "../../.."]) {
    const name = join(checkpoint, above, runFiles.config);
    const text = await readFile(name, "utf8").catch(() => null);
    if (text !== null) return loadConfig({ name, text }).config;
  }
  return null;
}

/**
 * Looks whether a run that is resumed is still the same, and notes what of its configuration differs.
 *
 * @param writes  whether an imported run may learn which rows are its own
 * @returns       whether something differs
 * @throws {UsageError} when its data differ: they would not go on where they stopped
 */
export async function checkManifest(
  output: string,
  config: RunConfig,
  dataHash: string,
  note: (text: string) => void,
  writes = true,
): Promise<boolean> {
  const path = join(output, runFiles.manifest);
  const known = parse(path, await readFile(path, "utf8"));
  if (known.imported !== undefined && known.data === undefined) {
    // An imported run learns with its first steps here which rows are its own.
    if (!writes) return false;
    await writeText(path, `${JSON.stringify({ ...known, data: dataHash }, null, 2)}\n`);
    await writeConfig(output, config);
    return false;
  }
  if (known.data !== dataHash) {
    throw new UsageError(
      `${output} was trained on other data (${String(known.data).slice(0, 12)}…, now ${dataHash.slice(0, 12)}…): a resumed run sees the same rows`,
    );
  }
  const file = join(output, runFiles.config);
  const text = await readFile(file, "utf8").catch(() => null);
  if (text === null) return false;
  const before = flat(loadConfig({ name: file, text }).config);
  const changes = Object.entries(flat(config))
    .filter(([key, value]) => JSON.stringify(before[key]) !== JSON.stringify(value))
    .map(([key, value]) => `${key} ${JSON.stringify(value)} (was ${JSON.stringify(before[key])})`);
  if (changes.length > 0) note(`going on with other settings: ${changes.join(", ")}`);
  return changes.length > 0;
}

/** What of a manifest is read again. */
interface Known {
  readonly data?: unknown;
  /** What the run was made from, of one that `convert import` made. */
  readonly imported?: unknown;
}

function parse(path: string, text: string): Known {
  try {
    return JSON.parse(text) as Known;
  } catch (error) {
    throw new UsageError(`${path} is damaged: ${(error as Error).message}`, { cause: error });
  }
}

/** A configuration by full key. */
function flat(config: RunConfig): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) =>
      typeof value === "object" && value !== null
        ? Object.entries(value).map(([inner, each]) => [`${key}.${inner}`, each])
        : [[key, value]],
    ),
  );
}
