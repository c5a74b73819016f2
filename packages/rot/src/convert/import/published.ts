/// <reference lib="esnext.disposable" preserve="true" />
/** The folders of the published trainer, as named tensors: stage 1 keeps head and markers apart, stage 2 the whole module tree. */
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UsageError, WeightError } from "@rot/tensor";
import { isFolder } from "../../node/paths.ts";
import { sameBytes } from "../chunks.ts";
import { type CheckpointTensor, openCheckpoint } from "../open-checkpoint.ts";
import { readJsonObject } from "../safetensors-folder.ts";
import { findStateDict } from "../state-dict.ts";
import type { PickleValue } from "../torch-pickle/values.ts";
import { type Meaning, meaningOf } from "./names.ts";

type Tensors = ReadonlyMap<string, CheckpointTensor>;

/** What was opened. Close it, or declare it with `await using`. */
interface Opened extends AsyncDisposable {
  /** What messages call it. */
  readonly file: string;
}

/** `projection_head.bin` and `special_tokens.bin`. */
export interface PublishedStage1 extends Opened {
  readonly head: Tensors;
  readonly headFile: string;
  /** The rows of markers by their names here; `img_begin` and `img_end` are always there. */
  readonly rows: Tensors;
  /** The ids of the markers, where the file has them: safetensors cannot. */
  readonly ids: { readonly begin: number; readonly end: number } | null;
  readonly step: number;
}

/** The module tree of `mp_rank_00_model_states.pt`, aliases taken together. */
export interface PublishedStates extends Opened {
  readonly model: Tensors;
  readonly adapter: Tensors;
  readonly head: Tensors;
  /** Tensors that no model needs. */
  readonly dropped: readonly string[];
  readonly step: number;
  /** Where the files of the weights are, and with them DeepSpeed's of the optimizer. */
  readonly folder: string;
  /** What DeepSpeed saved, of a torch file. */
  readonly values: PickleValue | undefined;
}

/** Rows by their keys in `special_tokens.bin`; published are the first two, the others are those that round trips need. */
export const rowKeys: ReadonlyMap<string, string> = new Map(
  ["", "lm_head."].flatMap((table) =>
    ["img_begin", "img_end", "img"].map((name): [string, string] => [`${table}${name}_emb`, table + name]),
  ),
);

/**
 * Opens the folder of a stage-1 checkpoint. Files may be torch's or safetensors.
 *
 * @throws {UsageError} when the head or the markers are not there
 * @throws {WeightError} for a damaged file, or one that holds something else
 */
export async function openStage1(folder: string): Promise<PublishedStage1> {
  const headFile = await fileOf(folder, "projection_head");
  const rowFile = await fileOf(folder, "special_tokens");
  const head = await openCheckpoint(headFile);
  try {
    const special = await openCheckpoint(rowFile);
    const close = async (): Promise<void> => {
      await head[Symbol.asyncDispose]();
      await special[Symbol.asyncDispose]();
    };
    try {
      const rows = new Map<string, CheckpointTensor>();
      for (const tensor of special.tensors) {
        const name = rowKeys.get(tensor.name);
        if (name === undefined) throw new WeightError(`${rowFile}: ${quoted(tensor.name)} is no row of a marker`);
        rows.set(name, tensor);
      }
      for (const name of ["img_begin", "img_end"]) {
        if (!rows.has(name)) throw new WeightError(`${rowFile}: ${name}_emb is missing`);
      }
      const named = inStateDict(head.value, head.tensors);
      const step = await stepOf(folder, folder);
      return {
        file: folder,
        headFile,
        head: named,
        rows,
        ids: idsIn(special.value, rowFile),
        step,
        [Symbol.asyncDispose]: close,
      };
    } catch (error) {
      await special[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    await head[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Opens the weights of a checkpoint: its folder, `mp_rank_00_model_states.pt` itself, or a safetensors conversion of it.
 *
 * @throws {UsageError} when there are none
 * @throws {WeightError} for a damaged file, or one in which names of one tensor hold different values
 */
export async function openStates(path: string): Promise<PublishedStates> {
  const file = await statesFile(path);
  const opened = await openCheckpoint(file).catch(async (error: unknown) => {
    if (!(error instanceof UsageError) || !(await isZero3(path))) throw error;
    throw new UsageError(
      `${path} is of ZeRO stage 3, whose weights are in parts: gather them with the zero_to_fp32.py that DeepSpeed left there, and name the file it makes`,
    );
  });
  try {
    const parts: Record<Exclude<Meaning["part"], "other">, Map<string, CheckpointTensor>> = {
      model: new Map(),
      adapter: new Map(),
      head: new Map(),
    };
    const dropped: string[] = [];
    const tied = new Map(opened.tied.flatMap((names, group) => names.map((name): [string, number] => [name, group])));
    for (const [name, tensor] of inStateDict(opened.value, opened.tensors)) {
      const meaning = meaningOf(name);
      if (meaning.part === "other") {
        dropped.push(name);
        continue;
      }
      const before = parts[meaning.part].get(meaning.key);
      if (!before) {
        parts[meaning.part].set(meaning.key, tensor);
        continue;
      }
      const same = tied.has(tensor.name) && tied.get(tensor.name) === tied.get(before.name);
      if (!same) await requireEqual(before, tensor, file);
    }
    const folder = dirname(opened.files[0] as string);
    const counted = opened.value instanceof Map ? opened.value.get("global_steps") : undefined;
    const isCount = Number.isSafeInteger(counted) && (counted as number) >= 0;
    const step = isCount ? (counted as number) : await stepOf((await isFolder(path)) ? path : dirname(folder), folder);
    const { value: values } = opened;
    return {
      file,
      ...parts,
      dropped,
      step,
      folder,
      values,
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

/** Whether the weights are shared out among ranks. */
async function isZero3(path: string): Promise<boolean> {
  const names = await readdir(path, { recursive: true }).catch((): string[] => []);
  return names.some((name) => /^(?:bf16_)?zero_pp_rank_\d+_mp_rank_00_model_states\.pt$/.test(basename(name)));
}

/** Whether a folder has the weights of a whole model, as DeepSpeed saves them in stage 1 too. */
export async function hasStates(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.includes("latest") || names.some((name) => /^global_step\d+$/.test(name));
}

/**
 * Passes when two tensors hold the same bits.
 *
 * @throws {WeightError}
 */
export async function requireEqual(a: CheckpointTensor, b: CheckpointTensor, file: string): Promise<void> {
  const differ = (): never => {
    throw new WeightError(`${file}: ${quoted(a.name)} and ${quoted(b.name)} should be one tensor, and differ`);
  };
  if (a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) differ();
  if (!(await sameBytes(a.stream(), b.stream()))) differ();
}

/** The file of weights that a path means: `latest` says which, or else it is the highest step. */
async function statesFile(path: string): Promise<string> {
  if (!(await isFolder(path))) return path;
  const names = await readdir(path);
  if (names.includes("latest")) return path;
  const steps = names.flatMap((name) => /^global_step(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  return steps.length > 0 ? join(path, `global_step${Math.max(...steps)}`, "mp_rank_00_model_states.pt") : path;
}

async function fileOf(folder: string, name: string): Promise<string> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(error.code === "ENOENT" ? `${folder} is not there` : `${folder}: ${error.message}`);
  });
  const found = [".bin", ".pt", ".safetensors"].map((ending) => name + ending).find((file) => names.includes(file));
  if (found !== undefined) return join(folder, found);
  throw new UsageError(`${folder} has no ${name}.bin: name the folder of a stage-1 checkpoint`);
}

/** The tensors of the state dict alone, by their names in it. */
function inStateDict(
  value: PickleValue | undefined,
  tensors: readonly CheckpointTensor[],
): Map<string, CheckpointTensor> {
  const { wrapper } = value === undefined ? { wrapper: undefined } : findStateDict(value);
  const prefix = wrapper === undefined ? "" : `${wrapper}.`;
  return new Map(
    tensors.flatMap((tensor) => (tensor.name.startsWith(prefix) ? [[tensor.name.slice(prefix.length), tensor]] : [])),
  );
}

function idsIn(value: PickleValue | undefined, file: string): PublishedStage1["ids"] {
  if (!(value instanceof Map)) return null;
  const [begin, end] = ["img_begin_token_id", "img_end_token_id"].map((key) => value.get(key));
  if (begin === undefined && end === undefined) return null;
  if (Number.isSafeInteger(begin) && Number.isSafeInteger(end)) return { begin: begin as number, end: end as number };
  throw new WeightError(`${file}: img_begin_token_id and img_end_token_id are not two numbers`);
}

/**
 * Optimizer steps of a checkpoint; 0 where nothing says it. DeepSpeed counts them in the name of its folder; the published
 * trainer's own number is in its batches then, and in steps without DeepSpeed.
 *
 * @param inner  where the weights are
 */
async function stepOf(folder: string, inner: string): Promise<number> {
  const stepsIn = (names: readonly string[]): number[] =>
    names.flatMap((name) => /^global_step(\d{1,12})$/.exec(name)?.[1] ?? []).map(Number);
  const [own = Math.max(-1, ...stepsIn(await readdir(folder).catch((): string[] => [])))] = stepsIn([basename(inner)]);
  if (own >= 0) return own;
  const state = await readJsonObject(join(folder, "training_state.json")).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return new Map<string, unknown>();
    throw error;
  });
  const step = state.get("global_step");
  if (Number.isSafeInteger(step) && (step as number) >= 0) return step as number;
  return Number(/^checkpoint_step_(\d{1,12})$/.exec(basename(folder))?.[1] ?? 0);
}

const quoted = (name: string): string => JSON.stringify(name.slice(0, 200));
