/** A problem with its chain of thought, and what is said when a row is none. */

/** One problem. */
export interface Sample {
  /** As the data have it, else the number of the row, counted from 0. */
  readonly id: number | string;
  readonly question: string;
  /** The reasoning, in text; lines end with `\n`. */
  readonly cot: string;
  readonly answer: string;
}

/** Where a row stands and what is wrong with it. The row itself is never shown: it may be long, or private. */
export interface BadRow {
  /** `data.jsonl:17`, `data.json, record 17` */
  readonly place: string;
  /** What is wrong, with the field. */
  readonly reason: string;
}

/** Data that cannot be used. `rows` are the bad rows, where it is rows that are bad. */
export class DatasetError extends Error {
  override readonly name = "DatasetError";
  readonly rows: readonly BadRow[];

  constructor(message: string, rows: readonly BadRow[] = []) {
    super(message);
    this.rows = rows;
  }
}

/** How many bad rows a message lists. */
const LISTED = 10;

/** Bad rows as lines of a message. */
export function listRows(rows: readonly BadRow[]): string {
  const lines = rows.slice(0, LISTED).map(({ place, reason }) => `  ${place}: ${reason}`);
  if (rows.length > LISTED) lines.push(`  and ${rows.length - LISTED} more`);
  return lines.join("\n");
}
