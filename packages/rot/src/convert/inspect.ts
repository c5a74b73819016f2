/** What is in a checkpoint, and how two of them differ, without loading them. */
import { decode } from "./decode.ts";
import type { OnProgress } from "./files.ts";
import { type Checkpoint, type CheckpointTensor, openNamed, openWhole } from "./open-checkpoint.ts";
import { cleanName, findStateDict } from "./state-dict.ts";
import { type GlobalsFound, listGlobals } from "./torch-pickle/reader.ts";
import { countOf } from "./torch-pickle/strided.ts";
import { keyText, type PickleValue, TorchDevice, TorchDType, TorchTensor, Tuple } from "./torch-pickle/values.ts";

/** A tensor's name, type and size; in a torch file also its strides. */
export interface TensorSummary {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly stride?: readonly number[];
  readonly bytes: number;
}

/** What a checkpoint holds. Plain values, ready for JSON. */
export interface Inspection {
  readonly path: string;
  readonly kind: Checkpoint["kind"];
  readonly files: readonly string[];
  readonly tensors: readonly TensorSummary[];
  readonly parameters: number;
  /** Bytes of the tensors, tied ones counted once. */
  readonly bytes: number;
  readonly tied: readonly (readonly string[])[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly globals: readonly string[];
  /** What stands beside the tensors of a torch file. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** Looks at a file or folder that {@link openWhole} opens; reads headers and pickles only. */
export async function inspectCheckpoint(path: string): Promise<Inspection> {
  await using checkpoint = await openWhole(path);
  const again = new Set(checkpoint.tied.flatMap((names) => names.slice(1)));
  const own = checkpoint.tensors.filter(({ name }) => !again.has(name));
  return {
    path,
    kind: checkpoint.kind,
    files: checkpoint.files,
    tensors: checkpoint.tensors.map(summary),
    parameters: own.reduce((sum, { shape }) => sum + countOf(shape), 0),
    bytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
    tied: checkpoint.tied,
    metadata: Object.fromEntries(checkpoint.metadata),
    globals: checkpoint.globals,
    values: plainValues(checkpoint.value),
  };
}

/** The classes and functions that a torch file names, also one that is refused. */
export async function inspectGlobals(path: string): Promise<GlobalsFound> {
  await using source = await openNamed(path);
  return await listGlobals(source, { name: path });
}

const summary = ({ name, dtype, shape, stride, bytes }: CheckpointTensor): TensorSummary =>
  stride ? { name, dtype, shape, stride, bytes } : { name, dtype, shape, bytes };

const mostItems = 64;

/** The entries of the top dict that are no tensors, shortened where they are long. */
function plainValues(root: PickleValue | undefined): Record<string, unknown> {
  if (!(root instanceof Map)) return {};
  const entries = [...root].flatMap(([key, value]): [string, unknown][] => {
    const shown = plain(value, 0);
    return shown === undefined ? [] : [[keyText(key), shown]];
  });
  return Object.fromEntries(entries.slice(0, mostItems));
}

/** JSON of a value; undefined for a tensor, and for a container that holds nothing else. */
function plain(value: PickleValue, depth: number): unknown {
  if (value instanceof TorchTensor) return undefined;
  if (value instanceof TorchDType || value instanceof TorchDevice) return value.name;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (depth >= 4) return "…";
  if (value instanceof Map) {
    const entries = [...value]
      .slice(0, mostItems)
      .map(([key, item]) => [keyText(key), plain(item, depth + 1)] as const);
    const shown = entries.filter(([, item]) => item !== undefined);
    return shown.length === 0 && entries.length > 0 ? undefined : Object.fromEntries(shown);
  }
  const items = value instanceof Tuple ? value.items : value instanceof Set ? [...value] : value;
  if (!Array.isArray(items)) return undefined;
  const shown = items.slice(0, mostItems).map((item: PickleValue) => plain(item, depth + 1));
  const kept = shown.filter((item) => item !== undefined);
  return kept.length === 0 && shown.length > 0 ? undefined : kept;
}

/** How two checkpoints differ. */
export interface CheckpointDifference {
  readonly onlyInA: readonly string[];
  readonly onlyInB: readonly string[];
  readonly shapes: readonly { readonly name: string; readonly a: readonly number[]; readonly b: readonly number[] }[];
  readonly dtypes: readonly { readonly name: string; readonly a: string; readonly b: string }[];
  /** Where values were compared: the largest absolute difference of each tensor that differs. NaN is equal to NaN. */
  readonly values?: readonly { readonly name: string; readonly largest: number; readonly elements: number }[];
  /** Names in both. */
  readonly common: number;
}

/**
 * Compares two checkpoints of any format by names, shapes and dtypes, and on demand by values. Of a torch file the names
 * are those in its state dict.
 *
 * @param options.values also compare the values of tensors of equal shape, whatever their dtypes
 * @param options.cleanKeys cut the wrappers' prefixes from the names of both, as a conversion does
 */
export async function compareCheckpoints(
  a: string,
  b: string,
  options: { readonly values?: boolean; readonly cleanKeys?: boolean; readonly onProgress?: OnProgress } = {},
): Promise<CheckpointDifference> {
  await using left = await openWhole(a);
  await using right = await openWhole(b);
  const [ofA, ofB] = [left, right].map((opened) => stateDictOf(opened, options.cleanKeys === true)) as [
    Map<string, CheckpointTensor>,
    Map<string, CheckpointTensor>,
  ];
  const pairs = [...ofA].flatMap(([name, one]): [string, CheckpointTensor, CheckpointTensor][] => {
    const other = ofB.get(name);
    return other ? [[name, one, other]] : [];
  });
  const sameShape = (one: CheckpointTensor, other: CheckpointTensor): boolean =>
    String(one.shape) === String(other.shape);
  const comparable = pairs.filter(([, one, other]) => sameShape(one, other));
  const difference = {
    onlyInA: [...ofA.keys()].filter((name) => !ofB.has(name)),
    onlyInB: [...ofB.keys()].filter((name) => !ofA.has(name)),
    shapes: pairs.flatMap(([name, one, other]) =>
      sameShape(one, other) ? [] : [{ name, a: one.shape, b: other.shape }],
    ),
    dtypes: pairs.flatMap(([name, one, other]) =>
      one.dtype === other.dtype ? [] : [{ name, a: one.dtype, b: other.dtype }],
    ),
    common: pairs.length,
  };
  if (!options.values) return difference;
  const total = comparable.reduce((sum, [, one]) => sum + one.bytes, 0);
  const values: { name: string; largest: number; elements: number }[] = [];
  let done = 0;
  for (const [name, one, other] of comparable) {
    const { largest, elements } = await largestDifference(one, other);
    if (elements > 0) values.push({ name, largest, elements });
    done += one.bytes;
    options.onProgress?.({ done, total, unit: "bytes" });
  }
  return { ...difference, values };
}

/** The tensors of the state dict, by name. */
function stateDictOf({ tensors, value }: Checkpoint, clean: boolean): Map<string, CheckpointTensor> {
  const wrapper = value === undefined ? undefined : findStateDict(value).wrapper;
  const begin = wrapper === undefined ? "" : `${wrapper}.`;
  return new Map(
    tensors
      .filter(({ name }) => name.startsWith(begin))
      .map((tensor) => {
        const name = tensor.name.slice(begin.length);
        return [clean ? cleanName(name) : name, tensor];
      }),
  );
}

/** The largest difference, and how many elements differ. An infinity or NaN on one side alone is infinitely far away. */
async function largestDifference(one: CheckpointTensor, other: CheckpointTensor) {
  const [left, right] = [numbers(one), numbers(other)];
  let largest = 0;
  let elements = 0;
  try {
    let a = await left.next();
    let b = await right.next();
    let [i, j] = [0, 0];
    while (!a.done && !b.done) {
      const [x, y] = [a.value[i++] as number, b.value[j++] as number];
      if (!Object.is(x, y) && x !== y) {
        elements++;
        const distance = Math.abs(x - y);
        largest = Math.max(largest, Number.isNaN(distance) ? Infinity : distance);
      }
      if (i >= a.value.length) [a, i] = [await left.next(), 0];
      if (j >= b.value.length) [b, j] = [await right.next(), 0];
    }
    return { largest, elements };
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
}

/** The elements of a tensor, chunk by chunk; none is empty. */
async function* numbers(tensor: CheckpointTensor): AsyncGenerator<Float64Array> {
  for await (const chunk of tensor.stream()) if (chunk.length > 0) yield decode(tensor.dtype, chunk);
}
