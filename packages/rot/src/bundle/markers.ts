/** `<img_begin>` and `<img_end>`: which ids they have, and rows in the token tables where the model has none for them. */
import { resizeTokenEmbeddings, type Tokenizer } from "@rot/models";
import {
  assign,
  cast,
  concat,
  type Device,
  gatherRows,
  keep,
  key,
  mean,
  randn,
  type Seed,
  scope,
  type Tensor,
  untaped,
  UsageError,
} from "@rot/tensor";
import { BundleError, type MarkerRecord } from "./config.ts";

/** The tokens that the published code adds, in its order. `<img>` stands nowhere, but has a row that is scored like all others. */
export const markerTokens = ["<img_begin>", "<img>", "<img_end>"] as const;

/**
 * Where the markers get their rows. `keep`: rows that the tables have beyond the tokenizer, or new ones at their end, so that
 * no row of another token changes. `reference`: the tables are given exactly the rows that the tokenizer then has, as in the
 * published code.
 */
export type MarkerMode = "keep" | "reference";

/** Rows by the names they have in `markers.safetensors`, [D] each; `lm_head.` before those of an output matrix of its own. */
export type MarkerRows = ReadonlyMap<string, Tensor>;

/** Keys of the embedding, and of an output matrix that is not tied to it. */
export const EMBEDDING_KEY = "model.language_model.embed_tokens.weight";
export const HEAD_KEY = "lm_head.weight";

/** The token tables, by what stands before the names of their rows. */
export const tokenTables: readonly (readonly [prefix: string, key: string])[] = [
  ["", EMBEDDING_KEY],
  ["lm_head.", HEAD_KEY],
];

/** `<img_begin>` is `img_begin` in files, as published. */
const nameOf = (token: string): string => token.slice(1, -1);

/**
 * Gives the markers ids: those of the tokenizer where it has both, else the next ones, which it is taught.
 *
 * @param vocabulary  rows of the model's tables
 * @throws {UsageError} when the tokenizer has one of the two
 */
export function planMarkers(tokenizer: Tokenizer, vocabulary: number, mode: MarkerMode): MarkerRecord {
  const [first, , last] = markerTokens;
  const own = tokenizer.has(first) && tokenizer.has(last);
  if (!own && (tokenizer.has(first) || tokenizer.has(last))) {
    throw new UsageError(`the tokenizer has only one of ${first} and ${last}: it must have both or neither`);
  }
  if (!own) tokenizer.addTokens(markerTokens);
  const [begin, end] = [tokenizer.id(first), tokenizer.id(last)];
  const needed = Math.max(begin, end) + 1;
  if (own && needed > vocabulary) {
    throw new UsageError(
      `the tokenizer's ${last} is token ${end}, but the model has ${vocabulary} rows: they are of two models`,
    );
  }
  return { own, begin, end, vocabulary: !own && mode === "reference" ? needed : Math.max(vocabulary, needed) };
}

/**
 * Teaches a tokenizer the markers of a checkpoint again.
 *
 * @param where  what messages call the checkpoint
 * @throws {BundleError} when they get other ids: checkpoint and tokenizer are of two models
 */
export function teachMarkers(tokenizer: Tokenizer, markers: MarkerRecord, where = "the checkpoint"): void {
  const { own, begin, end } = planMarkers(tokenizer, markers.vocabulary, "keep");
  if (own === markers.own && begin === markers.begin && end === markers.end) return;
  throw new BundleError(
    `${where} has its markers at the tokens ${markers.begin} and ${markers.end}, this tokenizer at ${begin} and ${end}: they are of two models`,
  );
}

/** Whether the rows of markers are in `markers.safetensors`: those of a tokenizer's own markers are in the base, unless they learnt. */
export const haveRowFile = ({ own, trained = false }: MarkerRecord): boolean => !own || trained;

/** Ids of all tokens that were added: `<img>` is between the two unless the tokenizer knew it before. */
export const idsOf = ({ begin, end }: MarkerRecord): Int32Array =>
  Int32Array.from(end - begin === 2 ? [begin, begin + 1, end] : [begin, end]);

/** Names of the rows of {@link idsOf}. */
export const namesOf = (markers: MarkerRecord): string[] =>
  (idsOf(markers).length === 3 ? [...markerTokens] : [markerTokens[0], markerTokens[2]]).map(nameOf);

/** Those that a model has. */
const tablesOf = (weights: ReadonlyMap<string, Tensor>): typeof tokenTables =>
  tokenTables.filter(([, key]) => weights.has(key));

/**
 * Fresh rows as the published code makes them: normal numbers brought to the length √D. An output matrix of its own gets its
 * mean row: long rows there would win every argmax.
 *
 * @param weights  of the base model, by key
 */
export function freshMarkers(weights: ReadonlyMap<string, Tensor>, markers: MarkerRecord, seed: Seed): MarkerRows {
  const { device, shape } = weights.get(EMBEDDING_KEY) as Tensor;
  const D = shape[1] as number;
  const make = (prefix: string, table: string, name: string): Tensor =>
    prefix === "" ? unitRow(device, D, key(seed).for(name)) : cast(mean(weights.get(table) as Tensor, 0), "f32");
  // One scope, so that none stays when there is no room for all.
  return scope(() =>
    untaped(
      () =>
        new Map(
          tablesOf(weights).flatMap(([prefix, table]) =>
            namesOf(markers).map((name) => [prefix + name, make(prefix, table, name)] as const),
          ),
        ),
    ),
  );
}

function unitRow(device: Device, D: number, seed: Seed): Tensor {
  const drawn = randn(device, [D], { seed });
  return drawn.mul(Math.sqrt(D)).div(drawn.square().sum().sqrt().add(1e-6));
}

/**
 * Gives the tables of a model their size, and the markers their rows. Only tensors on the device change.
 *
 * @param weights  by key; tables that change their size are replaced
 * @throws {UsageError} when a row is missing
 */
export function placeMarkers(weights: Map<string, Tensor>, markers: MarkerRecord, rows: MarkerRows): void {
  for (const [prefix, table] of tablesOf(weights)) {
    resizeTokenEmbeddings(weights, [table], markers.vocabulary);
    for (const name of namesOf(markers)) {
      if (!rows.has(prefix + name)) throw new UsageError(`markers: there is no row ${prefix}${name}`);
    }
  }
  writeMarkers(weights, markers, rows);
}

/**
 * Writes some rows of the markers over.
 *
 * @param weights  by key
 * @param rows     by the names of {@link MarkerRows}
 */
export function writeMarkers(weights: ReadonlyMap<string, Tensor>, markers: MarkerRecord, rows: MarkerRows): void {
  const names = namesOf(markers);
  const ids = idsOf(markers);
  for (const [prefix, table] of tablesOf(weights)) {
    for (const [i, name] of names.entries()) {
      const row = rows.get(prefix + name);
      if (row) setRow(weights.get(table) as Tensor, ids[i] as number, row);
    }
  }
}

/** Rows of any width and dtype begin where a binding may at every multiple of so many. */
const BLOCK = 128;

/** Writes one row of a table over, through the block of rows around it. */
function setRow(table: Tensor, at: number, row: Tensor): void {
  const { V, D } = table.dims("V D");
  const begin = at - (at % BLOCK);
  const end = Math.min(V, begin + BLOCK);
  scope(() =>
    untaped(() => {
      const parts = [table.slice([begin, at]), cast(row, table.dtype).reshape(1, D), table.slice([at + 1, end])];
      assign(table.rows(begin, end), concat(parts.filter(({ size }) => size > 0)));
    }),
  );
}

/** The rows that the markers have now, in f32. */
export function readMarkers(weights: ReadonlyMap<string, Tensor>, markers: MarkerRecord): MarkerRows {
  const ids = idsOf(markers);
  const read = (table: string, i: number): Tensor =>
    cast(gatherRows(weights.get(table) as Tensor, ids.subarray(i, i + 1)), "f32").reshape(-1);
  // One scope, so that none stays when there is no room for all.
  const rows = scope(() =>
    untaped(
      () =>
        new Map(
          tablesOf(weights).flatMap(([prefix, table]) =>
            namesOf(markers).map((name, i) => [prefix + name, read(table, i)] as const),
          ),
        ),
    ),
  );
  for (const row of rows.values()) keep(row);
  return rows;
}

/** Shapes by name of what `markers.safetensors` holds. */
export function markerShapes(
  weights: ReadonlyMap<string, Tensor>,
  markers: MarkerRecord,
): Map<string, readonly number[]> {
  const D = (weights.get(EMBEDDING_KEY) as Tensor).shape[1] as number;
  return new Map(
    tablesOf(weights).flatMap(([prefix]) => namesOf(markers).map((name) => [prefix + name, [D]] as [string, number[]])),
  );
}
