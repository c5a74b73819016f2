/** A folder of safetensors files as a torch checkpoint, in the layouts of the reference. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { UsageError, WeightError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { sameBytes } from "./chunks.ts";
import { listFolder, type OnProgress, requireSpace } from "./files.ts";
import { findModel, openSafetensorsFiles, readAliases, type SafetensorsFolder } from "./safetensors-folder.ts";
import { checkModelName, indexName } from "./shards.ts";
import { writeTorchFile, type TensorToWrite } from "./torch-pickle/writer.ts";

/** Where the state dict stands in the checkpoint: under this key, or `direct`, as the checkpoint itself. */
export const checkpointFormats = ["module", "model", "state_dict", "direct"] as const;

/** One of {@link checkpointFormats}. */
export type CheckpointFormat = (typeof checkpointFormats)[number];

/** What to convert, and how. Names and defaults are the reference's flags. */
export interface FromSafetensorsOptions {
  /** The folder with `{modelName}.safetensors`, or with an index and shards. */
  readonly input: string;
  /** The `.pt` file to make. */
  readonly output: string;
  readonly modelName?: string;
  /** Put before every name, as it is. */
  readonly prefix?: string;
  readonly format?: CheckpointFormat;
  /** Tie the output projection to the token table where both hold the same bits. */
  readonly restoreWeightTying?: boolean;
  readonly onProgress?: OnProgress;
}

/** What was written. */
export interface FromSafetensorsResult {
  /** Names in the state dict. */
  readonly names: readonly string[];
  /** Bytes of the file. */
  readonly bytes: number;
  /** Names that share another's storage. */
  readonly tied: ReadonlyMap<string, string>;
  /** Pairs that weight tying was asked for and that differ, so that they stay apart. */
  readonly different: readonly (readonly [source: string, target: string])[];
}

/** Parts of names: the token table, and the projection that some models tie to it. */
const tiePatterns: readonly (readonly [source: string, target: string])[] = [
  ["language_model.embed_tokens.weight", "llm_lm_head.weight"],
  ["base_model.model.model.language_model.embed_tokens.weight", "base_model.model.lm_head.weight"],
];

/**
 * Writes a checkpoint that `torch.load(weights_only=True)` opens. Names that a conversion by {@link toSafetensors} left
 * out come back, sharing storage as before. Never holds more than a few MiB, and the file appears when it is whole.
 *
 * @throws {UsageError} when the input has no such model, or an option cannot be
 * @throws {SafetensorsError} for a damaged file
 * @throws {WeightError} for an index or a record that does not fit the files
 */
export async function fromSafetensors(options: FromSafetensorsOptions): Promise<FromSafetensorsResult> {
  const { input, output, modelName = "RoT", prefix = "", format = "module", onProgress } = options;
  checkModelName(modelName);
  if (!checkpointFormats.includes(format))
    throw new UsageError(`format ${JSON.stringify(format)}: ${checkpointFormats.join(", ")} wanted`);
  if ((await listFolder(input)) === undefined) throw new UsageError(`${input} is not there`);
  const path = await findModel(input, modelName, indexName);
  await using files = await openSafetensorsFiles(path);
  const tied = new Map(await readAliases(input, files.tensors));
  const different = options.restoreWeightTying ? await restoreTies(files, tied) : [];

  const own = [...files.tensors.values()].filter(({ name }) => !tied.has(name));
  const total = own.reduce((sum, { begin, end }) => sum + end - begin, 0);
  let done = 0;
  const sources = new Map<string, TensorToWrite>();
  for (const { name, dtype, shape } of own) {
    sources.set(name, {
      dtype,
      shape,
      data: async function* () {
        for await (const chunk of files.stream(name)) {
          yield chunk;
          done += chunk.length;
          onProgress?.({ done, total, unit: "bytes" });
        }
      },
    });
  }
  const stateDict = new Map<string, TensorToWrite>();
  for (const name of new Set([...files.tensors.keys(), ...tied.keys()])) {
    const source = sources.get(tied.get(name) ?? name);
    if (!source) throw new WeightError(`${path}: ${JSON.stringify(name)} is tied to a name that is tied itself`);
    stateDict.set(prefix + name, source);
  }
  await mkdir(dirname(output), { recursive: true });
  await requireSpace(dirname(output), total);
  const value = format === "direct" ? stateDict : new Map([[format, stateDict]]);
  const bytes = await writeFileAtomically(output, writeTorchFile(value));
  return { names: [...stateDict.keys()], bytes, tied, different };
}

/**
 * Adds to `tied` each target whose bits are its source's. The reference ties what is close to 1e-5 as well, which
 * would change values.
 */
async function restoreTies(files: SafetensorsFolder, tied: Map<string, string>): Promise<[string, string][]> {
  const different: [string, string][] = [];
  const names = [...files.tensors.keys()];
  for (const [sourcePattern, targetPattern] of tiePatterns) {
    const sources = names.filter((name) => name.includes(sourcePattern) && !tied.has(name));
    for (const target of names.filter((name) => name.includes(targetPattern) && !tied.has(name))) {
      // An own tensor that others are tied to cannot be tied in turn.
      if ([...tied.values()].includes(target)) continue;
      let found = false;
      for (const source of sources) {
        if (!(await equalTensors(files, source, target))) continue;
        tied.set(target, source);
        found = true;
        break;
      }
      if (!found) different.push(...sources.slice(0, 1).map((source): [string, string] => [source, target]));
    }
  }
  return different.filter(([, target]) => !tied.has(target));
}

async function equalTensors(files: SafetensorsFolder, a: string, b: string): Promise<boolean> {
  const [one, other] = [files.tensors.get(a), files.tensors.get(b)];
  if (!one || !other || one.dtype !== other.dtype || String(one.shape) !== String(other.shape)) return false;
  return await sameBytes(files.stream(a), files.stream(b));
}
