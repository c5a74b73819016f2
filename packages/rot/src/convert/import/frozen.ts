/** Weights that training left as they were: they must be the base's, or the checkpoint is of another one. */
import { decode } from "../decode.ts";
import type { CheckpointTensor } from "../open-checkpoint.ts";
import type { MarkerRecord } from "../../bundle/config.ts";
import { tokenTables } from "../../bundle/markers.ts";
import { type BaseModel, type StoredTensor, storedTensor } from "./base-model.ts";
import { floatOf } from "./floats.ts";

/** Elements from `begin` to before `end`. */
type Segment = readonly [begin: number, end: number];

/**
 * Whether the elements of a checkpoint's tensor differ from the base's, rounded to the dtype of the checkpoint.
 *
 * @param segments  what is compared; in ascending order, inside both
 */
async function differs(tensor: CheckpointTensor, base: StoredTensor, segments: readonly Segment[]): Promise<boolean> {
  const [float, own] = [floatOf(tensor.dtype, tensor.name), floatOf(base.dtype, tensor.name)];
  let at = 0;
  for await (const chunk of tensor.stream()) {
    const end = at + chunk.length / float.width;
    for (const [from, to] of segments) {
      const [low, high] = [Math.max(at, from), Math.min(end, to)];
      if (low >= high) continue;
      const part = chunk.subarray((low - at) * float.width, (high - at) * float.width);
      let place = 0;
      for await (const bytes of base.stream(low * own.width, high * own.width)) {
        const length = (bytes.length / own.width) * float.width;
        if (!same(part.subarray(place, place + length), bytes, tensor, base, float.round)) return true;
        place += length;
      }
    }
    at = end;
  }
  return false;
}

function same(
  part: Uint8Array,
  bytes: Uint8Array,
  { dtype }: CheckpointTensor,
  base: StoredTensor,
  round: (x: number) => number,
): boolean {
  if (dtype === base.dtype) return Buffer.compare(part, bytes) === 0;
  const [found, expected] = [decode(dtype, part), decode(base.dtype, bytes)];
  return found.every((value, i) => Object.is(value, round(expected[i] as number)));
}

/** The segments of a table's rows that are not among some, given in ascending order. */
function rowsBut(rows: number, but: readonly number[], width: number): Segment[] {
  const cuts = [-1, ...but.filter((row) => row < rows), rows];
  return cuts.slice(1).map((row, i): Segment => [((cuts[i] as number) + 1) * width, row * width]);
}

/**
 * The weights that differ from the base's, rows of markers apart.
 *
 * @param wanted   whether a parameter is looked at
 * @param counted  makes a tensor count what is read of it
 */
export async function changedWeights(
  model: ReadonlyMap<string, CheckpointTensor>,
  { description, checkpoint }: BaseModel,
  { own, begin, end }: MarkerRecord,
  wanted: (key: string) => boolean,
  counted: (tensor: CheckpointTensor) => CheckpointTensor,
): Promise<string[]> {
  const changed: string[] = [];
  const markers = own ? [] : Array.from({ length: end - begin + 1 }, (_, i) => begin + i);
  for (const [key, shape] of description.architecture.parameters) {
    const tensor = model.get(key);
    if (!tensor || !wanted(key)) continue;
    const isTable = tokenTables.some(([, table]) => table === key);
    const [rows = 1, width = 1] = shape;
    const count = shape.reduce((product, length) => product * length, 1);
    const segments = isTable ? rowsBut(Math.min(rows, tensor.shape[0] ?? 0), markers, width) : rowsBut(count, [], 1);
    if (await differs(counted(tensor), storedTensor(checkpoint, key), segments)) changed.push(key);
  }
  return changed;
}
