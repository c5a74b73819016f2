/** The rows of `<img_begin>`, `<img>` and `<img_end>`, from the places where the published trainer keeps them. */
import { philox, WeightError } from "@rot/tensor";
import type { FileDType } from "@rot/tensor/safetensors";
import type { MarkerRecord } from "../../bundle/config.ts";
import { idsOf, namesOf, tokenTables } from "../../bundle/markers.ts";
import { readAll } from "../chunks.ts";
import { decode } from "../decode.ts";
import type { CheckpointTensor } from "../open-checkpoint.ts";
import { type BaseModel, storedTensor } from "./base-model.ts";
import { encode } from "./floats.ts";

/** A row as it was stored. */
export interface Row {
  readonly dtype: FileDType;
  readonly bytes: Uint8Array;
}

/** Where rows are looked for. */
export interface RowSources {
  readonly markers: MarkerRecord;
  /** D of the model. */
  readonly width: number;
  /** Whether the base ties its output matrix to its embedding. */
  readonly tied: boolean;
  /** Of `special_tokens.bin`. */
  readonly stage1: ReadonlyMap<string, CheckpointTensor> | undefined;
  readonly stage1File: string;
  /** Parameters of the whole model. */
  readonly states: ReadonlyMap<string, CheckpointTensor> | undefined;
  readonly note: (text: string) => void;
}

/**
 * Finds the rows of all markers. A row of the whole model wins where the stage-1 file has another, as in the published
 * evaluation; where they agree up to rounding, the one that was not rounded is taken. `<img>`, which stands nowhere and
 * which a stage-1 file does not have, is drawn as the published code draws it each time.
 *
 * @throws {WeightError} when a row is nowhere
 */
export async function findRows({
  markers,
  width,
  tied,
  stage1,
  stage1File,
  states,
  note,
}: RowSources): Promise<Map<string, Row>> {
  const [ids, names] = [[...idsOf(markers)], namesOf(markers)];
  const rows = new Map<string, Row>();
  for (const [prefix, key] of tokenTables) {
    if (prefix !== "" && tied) continue;
    const table = states?.get(key);
    const fromTable = table && (await readRows(table, ids));
    for (const [i, name] of names.entries()) {
      const vector = stage1?.get(prefix + name);
      const first = vector && { dtype: vector.dtype, bytes: await readVector(vector, width, stage1File) };
      const bytes = fromTable?.get(ids[i] as number);
      const trained = table && bytes && { dtype: table.dtype, bytes };
      const differ = first !== undefined && trained !== undefined && !agree(first, trained);
      if (differ)
        note(
          `the row of ${prefix}${name} is not the one of ${stage1File}: the whole model's is taken, as in the published evaluation`,
        );
      const row = differ ? trained : (first ?? trained);
      if (row) rows.set(prefix + name, row);
      else if (name === "img" && prefix === "") {
        rows.set(name, drawn(width));
        note("no file has the row of <img>, which stands in no prompt: it is drawn, as in the published code");
      } else {
        throw new WeightError(
          `${stage1File}: there is no row ${prefix}${name} for the base's own output matrix: give --stage2 too`,
        );
      }
    }
  }
  return rows;
}

/** Whether `row`, rounded to the dtype of a table, is its row. */
const agree = (row: Row, { dtype, bytes }: Row): boolean =>
  Buffer.compare(encode(dtype, decode(row.dtype, row.bytes), "a marker"), bytes) === 0;

/** Normal numbers brought to the length √D, the same ones each time. */
function drawn(width: number): Row {
  const values = Float64Array.from({ length: width }, (_, i) => {
    const [a, b] = philox([i, 0, 0, 0], [0, 0]);
    return Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * b) / 2 ** 32);
  });
  const length = Math.hypot(...values);
  return {
    dtype: "F32",
    bytes: encode(
      "F32",
      values.map((x) => (x / (length + 1e-6)) * Math.sqrt(width)),
      "img",
    ),
  };
}

/** Checks the rows of markers that the base has itself. @throws {WeightError} when they are others */
export async function checkOwnRows({ markers, stage1, stage1File, width }: RowSources, base: BaseModel): Promise<void> {
  for (const [name, vector] of stage1 ?? []) {
    const row = { dtype: vector.dtype, bytes: await readVector(vector, width, stage1File) };
    const own = await ownRow(base, markers, name);
    if (own && !agree(row, own)) {
      throw new WeightError(
        `${stage1File}: ${vector.name} is not the row that the base's own tokenizer has for it: it is another base`,
      );
    }
  }
}

async function ownRow({ checkpoint }: BaseModel, { begin, end }: MarkerRecord, name: string): Promise<Row | undefined> {
  const [, prefix = "", which] = /^(lm_head\.)?img_(begin|end)$/.exec(name) ?? [];
  const key = tokenTables.find(([of]) => of === prefix)?.[1] ?? "";
  if (which === undefined || !checkpoint.tensors.has(key)) return undefined;
  const table = storedTensor(checkpoint, key);
  const bytes = table.bytes / (table.shape[0] as number);
  const at = (which === "begin" ? begin : end) * bytes;
  return { dtype: table.dtype, bytes: await readAll(table.stream(at, at + bytes)) };
}

/** Some rows of a table, in one pass over it. */
async function readRows(table: CheckpointTensor, ids: readonly number[]): Promise<Map<number, Uint8Array>> {
  const [rows = 0] = table.shape;
  const width = table.bytes / rows;
  const found = new Map(ids.map((id) => [id, new Uint8Array(width)]));
  let at = 0;
  for await (const chunk of table.stream()) {
    for (const [id, row] of found) {
      const [low, high] = [Math.max(at, id * width), Math.min(at + chunk.length, (id + 1) * width)];
      if (low < high) row.set(chunk.subarray(low - at, high - at), low - id * width);
    }
    at += chunk.length;
  }
  return found;
}

/** A short vector of a file. @throws {WeightError} when it is not of this length */
async function readVector(tensor: CheckpointTensor, length: number, what: string): Promise<Uint8Array> {
  if (tensor.shape.length !== 1 || tensor.shape[0] !== length) {
    throw new WeightError(
      `${what}: ${tensor.name} is [${tensor.shape.join(", ")}], but the base model is ${length} wide`,
    );
  }
  return readAll(tensor.stream());
}
