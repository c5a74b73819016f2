/** A file of rows to samples: the format found or given, bad rows counted and named. */
import { type FieldMap, type Format, formats, mapped, type Row, RowError } from "../formats.ts";
import { type BadRow, DatasetError, listRows, type Sample } from "../sample.ts";
import { readRows } from "./rows.ts";

/** How a dataset is read. */
export interface ReadOptions {
  /** The name of a format; found from the first rows where it is not given. */
  readonly format?: string;
  /** Names the fields of rows of one's own. */
  readonly map?: FieldMap;
  /** What a bad row does: end the reading with an error that lists them all, or be left out and counted. `fail` by default. */
  readonly onBadRow?: "fail" | "skip";
  /** Removes the marks `<<16-3-4=9>>` of a calculator. */
  readonly stripCalculator?: boolean;
  /** Reads no more samples than this. */
  readonly limit?: number;
}

/** What was read. */
export interface Dataset {
  readonly samples: readonly Sample[];
  /** The name of the format. */
  readonly format: string;
  /** The rows left out. */
  readonly bad: readonly BadRow[];
}

/**
 * Reads a dataset.
 *
 * @throws {DatasetError} when the file cannot be read, is in no known format, has no good row, or has a bad one and
 *   `onBadRow` is `fail`
 */
export async function readDataset(path: string, options: ReadOptions = {}): Promise<Dataset> {
  const known = options.map ? [mapped(options.map)] : formats(options);
  let format = options.map ? known[0] : options.format === undefined ? undefined : named(options.format, known);
  const samples: Sample[] = [];
  const bad: BadRow[] = [];
  const places = new Map<number | string, string>();
  let rows = 0;
  for await (const placed of readRows(path)) {
    if (options.limit !== undefined && samples.length >= options.limit) break;
    rows++;
    if ("reason" in placed) {
      bad.push(placed);
      continue;
    }
    const { place, row } = placed;
    format ??= known.find((candidate) => candidate.matches(row));
    if (!format) throw new DatasetError(`${path}: ${place} is in no known format: ${describe(row, known)}`);
    try {
      const { id = rows - 1, ...fields } = format.read(row);
      const before = places.get(id);
      if (before !== undefined) throw new RowError(`its id ${JSON.stringify(id).slice(0, 40)} is that of ${before}`);
      places.set(id, place);
      samples.push({ id, ...fields });
    } catch (error) {
      if (!(error instanceof RowError)) throw error;
      bad.push({ place, reason: error.message });
    }
  }
  if (bad.length > 0 && options.onBadRow !== "skip") {
    throw new DatasetError(
      `${path}: ${bad.length} of ${rows} rows cannot be used (mend them, or leave them out with --on-bad-row skip):\n${listRows(bad)}`,
      bad,
    );
  }
  if (samples.length === 0) {
    const why = rows === 0 ? "it has no rows" : `none of its ${rows} rows can be used:\n${listRows(bad)}`;
    throw new DatasetError(`${path}: ${why}`, bad);
  }
  return { samples, format: (format as Format).name, bad };
}

function named(name: string, known: readonly Format[]): Format {
  const format = known.find((candidate) => candidate.name === name);
  if (format) return format;
  throw new DatasetError(`there is no format "${name}": there are ${known.map((one) => one.name).join(", ")}`);
}

function describe(row: Row, known: readonly Format[]): string {
  const fields = typeof row === "string" ? "a line of text" : `the fields ${Object.keys(row).slice(0, 8).join(", ")}`;
  const forms = known.map(({ summary }) => `  ${summary}`).join("\n");
  return `it has ${fields}. Known are:\n${forms}\nFor others say which field is which: --map question=FIELD,cot=FIELD,answer=FIELD`;
}
