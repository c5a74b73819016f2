/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Where the published trainer left AdamW: DeepSpeed's partitions beside the weights, or torch's own `optimizer.bin`.
 *
 * DeepSpeed, of ZeRO stages 1 and 2, lays the parameters of a group one after another in the order of `param_shapes`, pads
 * them at the end, and gives each rank an equal part: of the f32 copies, and of both moments.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { WeightError } from "@rot/tensor";
import { openFile } from "@rot/tensor/safetensors/node";
import { readAll } from "../chunks.ts";
import { decode } from "../decode.ts";
import { openTorchFile, type TorchFile } from "../torch-pickle/reader.ts";
import { bytesOf, countOf, isContiguous } from "../torch-pickle/strided.ts";
import { type PickleValue, TorchTensor, Tuple } from "../torch-pickle/values.ts";
import type { NumberStream } from "./number-stream.ts";
import { meaningOf } from "./names.ts";
import type { PublishedStates } from "./published.ts";

/** What an optimizer keeps for one parameter, each F32 and of the parameter's shape. */
export interface PublishedSlot {
  /** The f32 copy of a parameter of 16 bits; null where there is none. */
  readonly master: NumberStream | null;
  readonly exp_avg: NumberStream;
  readonly exp_avg_sq: NumberStream;
}

/** An optimizer's files. Close them, or declare it with `await using`. */
export interface PublishedOptimizer extends AsyncDisposable {
  readonly files: readonly string[];
  /** Steps that it has done; null where it does not say. */
  readonly step: number | null;
  /** By the names that our training gives parameters. */
  readonly slots: ReadonlyMap<string, PublishedSlot>;
}

/** An optimizer, or why there is none to go on with. */
export type FoundOptimizer = PublishedOptimizer | { readonly missing: string };

/** Files opened together. */
class TorchFiles implements AsyncDisposable {
  readonly #closing: (() => Promise<void>)[] = [];

  async open(path: string): Promise<TorchFile> {
    const source = await openFile(path);
    this.#closing.push(() => source.close());
    return await openTorchFile(source, { name: path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing.splice(0)) await close();
  }
}

/** Opens, and closes again what was opened when `read` throws. */
async function opening<T extends object>(read: (files: TorchFiles) => Promise<T>): Promise<T & AsyncDisposable> {
  const files = new TorchFiles();
  try {
    return { ...(await read(files)), [Symbol.asyncDispose]: () => files[Symbol.asyncDispose]() };
  } catch (error) {
    await files[Symbol.asyncDispose]();
    throw error;
  }
}

const partitionName = /^(?:bf16_)?zero_pp_rank_(\d{1,6})_mp_rank_00_optim_states\.pt$/;

/**
 * Opens DeepSpeed's partitions beside the weights of a checkpoint.
 *
 * @throws {WeightError} for a damaged file, a rank that is missing, or partitions too short for their parameters
 */
export async function openPartitions({ folder, values }: PublishedStates): Promise<FoundOptimizer> {
  const found = (await readdir(folder)).flatMap((name): [rank: number, path: string][] => {
    const [, rank] = partitionName.exec(name) ?? [];
    return rank === undefined ? [] : [[Number(rank), join(folder, name)]];
  });
  if (found.length === 0) return { missing: `there is no zero_pp_rank_…_optim_states.pt in ${folder}` };
  const groups = paramShapes(values);
  if (!groups) return { missing: `the weights in ${folder} come without param_shapes, which orders the partitions` };
  const paths = found.toSorted(([a], [b]) => a - b);
  const wrong = paths.findIndex(([rank], i) => rank !== i);
  if (wrong >= 0) {
    const what = paths[wrong]?.[0] === wrong - 1 ? `two of rank ${wrong - 1}` : `none of rank ${wrong}`;
    throw new WeightError(`${folder}: of the optimizer's partitions there is ${what}`);
  }
  const files = paths.map(([, path]) => path);
  const opened = await opening(async (torch) => {
    const partitions: Partition[] = [];
    for (const path of files) {
      const partition = partitionOf(path, await torch.open(path));
      if (typeof partition === "string") return { missing: `${path} ${partition}` };
      if (partition.count !== null && partition.count !== files.length) {
        throw new WeightError(
          `${path} is one of ${partition.count} partitions of the optimizer, and ${files.length} are there`,
        );
      }
      partitions.push(partition);
    }
    return { files, step: await stepOf(partitions[0] as Partition), slots: slotsOf(groups, partitions) };
  });
  if ("missing" in opened) await opened[Symbol.asyncDispose]();
  return opened;
}

/** The names and shapes of each group of parameters, in their order. */
function paramShapes(values: PickleValue | undefined): [name: string, shape: number[]][][] | null {
  const groups = values instanceof Map ? values.get("param_shapes") : undefined;
  if (!Array.isArray(groups)) return null;
  const read = groups.map((group) => {
    if (!(group instanceof Map)) return null;
    return [...group].map(([name, shape]): [string, number[]] | null => {
      const sizes = shape instanceof Tuple ? shape.items : [null];
      const isShape = sizes.every((size) => typeof size === "number" && Number.isSafeInteger(size) && size >= 0);
      return typeof name === "string" && isShape ? [name, sizes as number[]] : null;
    });
  });
  const whole = read.every((group) => group?.every((entry) => entry !== null));
  return whole ? (read as [string, number[]][][]) : null;
}

/** What one rank holds of each group. */
interface Partition {
  readonly path: string;
  readonly file: TorchFile;
  /** Ranks in all; null where it is not said. */
  readonly count: number | null;
  readonly groups: readonly { readonly master: Part; readonly exp_avg: Part; readonly exp_avg_sq: Part }[];
  readonly step: PickleValue | undefined;
}

/** A flat run of F32, somewhere in a file. */
interface Part {
  readonly file: TorchFile;
  readonly tensor: TorchTensor;
}

/** A partition, or what it is in place of one that is read. */
function partitionOf(path: string, file: TorchFile): Partition | string {
  const fail = (what: string): never => {
    throw new WeightError(`${path}: ${what}, so it is no state of DeepSpeed's AdamW`);
  };
  const state = entry(file.value, "optimizer_state_dict");
  if (!(state instanceof Map)) return fail("there is no optimizer_state_dict");
  if (state.has("fp32_flat_groups")) return "is of ZeRO stage 3, whose partitions are not read";
  const gaps = [state.get("param_alignment_paddings") ?? []].flat(2);
  if (gaps.some((gap) => gap !== 0)) return "has gaps between parameters (parameter_alignment), which are not read";
  const masters = state.get("single_partition_of_fp32_groups");
  const base = state.get("base_optimizer_state");
  if (!Array.isArray(masters)) return fail("there is no list single_partition_of_fp32_groups");
  const part = (value: PickleValue | undefined, what: string): Part =>
    value instanceof TorchTensor && value.dtype === "F32" && value.shape.length === 1 && isContiguous(value)
      ? { file, tensor: value }
      : fail(`${what} is no flat F32 tensor`);
  // Elastic checkpoints list the states by group; others are those of torch, one parameter a group.
  const slots = Array.isArray(base) ? base : entry(base, "state");
  const groups = masters.map((master, g) => {
    const slot = entry(slots, g);
    return {
      master: part(master, `the f32 copy of group ${g}`),
      exp_avg: part(entry(slot, "exp_avg"), `exp_avg of group ${g}`),
      exp_avg_sq: part(entry(slot, "exp_avg_sq"), `exp_avg_sq of group ${g}`),
    };
  });
  const count = state.get("partition_count");
  const first = Array.isArray(count) ? count[0] : count;
  return {
    path,
    file,
    count: typeof first === "number" ? first : null,
    groups,
    step: entry(entry(slots, 0), "step"),
  };
}

const entry = (container: PickleValue | undefined, key: string | number): PickleValue | undefined =>
  container instanceof Map
    ? container.get(key)
    : Array.isArray(container) && typeof key === "number"
      ? container[key]
      : undefined;

async function stepOf({ file, step }: Pick<Partition, "file" | "step">): Promise<number | null> {
  if (typeof step === "number") return step;
  if (!(step instanceof TorchTensor) || countOf(step.shape) !== 1) return null;
  return decode(step.dtype, await readAll(file.stream(step)))[0] ?? null;
}

/** Each parameter's own in the partitions of all ranks. */
function slotsOf(
  shapes: readonly (readonly [name: string, shape: readonly number[]][])[],
  partitions: readonly Partition[],
): Map<string, PublishedSlot> {
  const [{ path, groups }] = partitions as [Partition, ...Partition[]];
  if (groups.length !== shapes.length) {
    throw new WeightError(`${path} has ${groups.length} groups of parameters, param_shapes ${shapes.length}`);
  }
  const slots = new Map<string, PublishedSlot>();
  for (const [g, group] of shapes.entries()) {
    const wanted = group.reduce((sum, [, shape]) => sum + countOf(shape), 0);
    const flat = (of: "master" | "exp_avg" | "exp_avg_sq"): Part[] => {
      const parts = partitions.map((partition) => (partition.groups[g] as Partition["groups"][number])[of]);
      const held = parts.reduce((sum, { tensor }) => sum + countOf(tensor.shape), 0);
      if (held < wanted) {
        throw new WeightError(
          `${path}: ${of} of group ${g} has ${held} numbers in all partitions, its parameters ${wanted}`,
        );
      }
      return parts;
    };
    const [masters, first, second] = [flat("master"), flat("exp_avg"), flat("exp_avg_sq")];
    let at = 0;
    for (const [name, shape] of group) {
      const begin = at;
      at += countOf(shape);
      const parameter = parameterName(name);
      if (parameter === null) continue;
      const own = (parts: readonly Part[]): NumberStream => slice(parts, begin, shape);
      slots.set(parameter, { master: own(masters), exp_avg: own(first), exp_avg_sq: own(second) });
    }
  }
  return slots;
}

/** What our training calls a parameter of the module tree; null for what no model needs. */
function parameterName(name: string): string | null {
  const meaning = meaningOf(name);
  if (meaning.part === "other") return null;
  return meaning.part === "head" ? `head.${meaning.key}` : meaning.key;
}

/** Some of the numbers that lie in parts one after another. */
function slice(parts: readonly Part[], begin: number, shape: readonly number[]): NumberStream {
  const end = begin + countOf(shape);
  return {
    dtype: "F32",
    shape,
    bytes: 4 * (end - begin),
    async *stream() {
      let at = 0;
      for (const { file, tensor } of parts) {
        const count = countOf(tensor.shape);
        const [low, high] = [Math.max(begin, at), Math.min(end, at + count)];
        if (low < high) {
          yield* file.stream(
            new TorchTensor(tensor.storage, tensor.dtype, tensor.offset + low - at, [high - low], [1]),
          );
        }
        at += count;
      }
    },
  };
}

/**
 * Opens `optimizer.bin` of a plain stage 1, whose parameters are those of the head in their order.
 *
 * @throws {WeightError} for a damaged file, or states of other shapes
 */
export async function openHeadOptimizer(
  folder: string,
  head: ReadonlyMap<string, { readonly shape: readonly number[] }>,
): Promise<FoundOptimizer> {
  const names = await readdir(folder);
  if (!names.includes("optimizer.bin")) return { missing: `there is no optimizer.bin in ${folder}` };
  const path = join(folder, "optimizer.bin");
  return await opening(async (torch) => {
    const file = await torch.open(path);
    const state = entry(entry(file.value, "optimizer_state_dict"), "state");
    if (!(state instanceof Map)) throw new WeightError(`${path}: there is no optimizer_state_dict with a state`);
    const own = (i: number, name: string, what: string, shape: readonly number[]): NumberStream => {
      const tensor = entry(state.get(i), what);
      if (tensor instanceof TorchTensor && String(tensor.shape) === String(shape)) {
        const { dtype } = tensor;
        return { dtype, shape, bytes: bytesOf(tensor), stream: () => file.stream(tensor) };
      }
      const found = tensor instanceof TorchTensor ? `is [${tensor.shape.join(", ")}]` : "is missing";
      throw new WeightError(`${path}: ${what} of parameter ${i} ${found}, and ${name} is [${shape.join(", ")}]`);
    };
    const slots = new Map(
      [...head].map(([name, { shape }], i): [string, PublishedSlot] => [
        `head.${name}`,
        {
          master: null,
          exp_avg: own(i, name, "exp_avg", shape),
          exp_avg_sq: own(i, name, "exp_avg_sq", shape),
        },
      ]),
    );
    const step = await stepOf({ file, step: entry(state.get(0), "step") });
    return { files: [path], step, slots };
  });
}
