/** Vocabularies that grow or shrink. */
import {
  concat,
  expand,
  keep,
  key,
  mean,
  randn,
  scope,
  type Seed,
  slice,
  type Tensor,
  untaped,
  cast,
  UsageError,
} from "@rot/tensor";

/** What the rows of new tokens hold. */
export type NewRows =
  /** The mean of the old rows: a new token is as likely as an average one. What transformers does, but for noise. */
  | "mean"
  /** Normal numbers, as at the start of training; each table has its own. */
  | { readonly seed: Seed; readonly std?: number };

/**
 * Gives a model's token tables another number of rows: the first stay as they are, new ones are filled, and those beyond
 * the end are dropped. The config's `vocab_size` is the caller's to change. Models built before keep the old tables, so
 * build them again.
 *
 * @param weights  by key; the tables in it are replaced and the old ones disposed
 * @param keys     the embedding and, where it is not tied to it, the output matrix: each [V, D]
 * @param rows     the new V
 * @throws {UsageError} when a key is missing or names no table, or `rows` is no length
 */
export function resizeTokenEmbeddings(
  weights: Map<string, Tensor>,
  keys: readonly string[],
  rows: number,
  fill: NewRows = "mean",
): void {
  if (!Number.isInteger(rows) || rows < 1) throw new UsageError(`resizeTokenEmbeddings: ${rows} is no number of rows`);
  const tables = keys.map((name) => {
    const table = weights.get(name);
    if (table?.rank === 2 && (table.shape[0] as number) > 0) return [name, table] as const;
    throw new UsageError(
      `resizeTokenEmbeddings: ${name} is ${table ? `[${table.shape.join(", ")}], no table` : "not there"}`,
    );
  });
  for (const [name, table] of tables) {
    if (table.shape[0] === rows) continue;
    weights.set(name, keep(scope(() => untaped(() => resized(name, table, rows, fill)))));
    table.dispose();
  }
}

function resized(name: string, table: Tensor, rows: number, fill: NewRows): Tensor {
  const { V, D } = table.dims("V D");
  if (rows < V) return slice(table, [0, rows]);
  const added =
    fill === "mean"
      ? expand(mean(table, 0, { keepDim: true }), [rows - V, D])
      : randn(table.device, [rows - V, D], { std: fill.std ?? 0.02, seed: key(fill.seed).for(name) });
  return concat([table, cast(added, table.dtype)]);
}
