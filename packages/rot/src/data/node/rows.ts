/** The rows of a file, one after another, each with its place: JSON lines, JSON, CSV, Parquet and plain text. */
import { constants } from "node:buffer";
import { createReadStream } from "node:fs";
import { open, readFile, stat } from "node:fs/promises";
import { basename, extname } from "node:path";
import { pipeline } from "node:stream";
import { parse as parseCsv } from "csv-parse";
import type { Row } from "../formats.ts";
import { type BadRow, DatasetError } from "../sample.ts";
import { type Line, LONGEST_LINE, readLines } from "./lines.ts";
import { readParquet } from "./parquet.ts";

/** A row at its place, or what is wrong there. */
export type Placed = { readonly place: string; readonly row: Row } | BadRow;

/** Bytes of a file that is read as a whole: a string holds no more. */
const LARGEST_WHOLE = constants.MAX_STRING_LENGTH;

/**
 * Reads the rows of a file by the ending of its name: `.jsonl` and `.ndjson`, `.json`, `.csv`, `.parquet`, `.txt`.
 *
 * @throws {DatasetError} when it cannot be opened, or its rows cannot be told apart
 */
export async function* readRows(path: string): AsyncGenerator<Placed> {
  const read = readers[extname(path).toLowerCase()];
  if (!read) {
    throw new DatasetError(
      `${path}: rows are read from ${Object.keys(readers).join(", ")}, not from "${extname(path) || basename(path)}"`,
    );
  }
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new DatasetError(error.code === "ENOENT" ? `${path}: there is no such file` : `${path}: ${error.message}`);
  });
  if (found.isDirectory()) throw new DatasetError(`${path} is a folder, not a file of rows`);
  await refuseCompressed(path);
  try {
    yield* read(path);
  } catch (error) {
    if (error instanceof DatasetError) throw error;
    throw new DatasetError(`${path}: ${(error as Error).message.slice(0, 200)}`);
  }
}

async function refuseCompressed(path: string): Promise<void> {
  const handle = await open(path).catch((error: NodeJS.ErrnoException) => {
    throw new DatasetError(`${path}: ${error.message}`);
  });
  try {
    const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    const kind = buffer.readUInt16BE(0) === 0x1f8b ? "gzip" : buffer.readUInt32LE(0) === 0xfd2fb528 ? "zstd" : null;
    if (kind) throw new DatasetError(`${path} is compressed with ${kind}: unpack it first`);
  } finally {
    await handle.close();
  }
}

const readers: Readonly<Record<string, (path: string) => AsyncGenerator<Placed>>> = {
  ".jsonl": jsonLines,
  ".ndjson": jsonLines,
  ".json": json,
  ".csv": csv,
  ".parquet": parquet,
  ".txt": textLines,
};

async function* jsonLines(path: string): AsyncGenerator<Placed> {
  for await (const line of readLines(path)) {
    if ("reason" in line) yield line;
    else if (line.text.trim() !== "") yield parseLine(line);
  }
}

function parseLine({ place, text, ended }: Line): Placed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The message of the parser quotes the row; its position alone is kept.
    const position = /position (\d+)/.exec((error as Error).message)?.[1];
    const where = position === undefined ? "" : ` (character ${Number(position) + 1})`;
    return { place, reason: ended ? `the line is not JSON${where}` : `the line is cut off${where}` };
  }
  return isObject(value) ? { place, row: value } : { place, reason: "the line is JSON, but not an object" };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

async function* textLines(path: string): AsyncGenerator<Placed> {
  for await (const line of readLines(path)) {
    if ("reason" in line) yield line;
    else if (line.text.trim() !== "") yield { place: line.place, row: line.text.replace(/\r$/, "") };
  }
}

async function whole(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > LARGEST_WHOLE) throw new DatasetError(`${path} has ${size} bytes: so much JSON is read as .jsonl only`);
  return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
}

/** An array of objects, or an object that holds one array of them, as `{"data": […]}`. */
async function* json(path: string): AsyncGenerator<Placed> {
  let value: unknown;
  try {
    value = JSON.parse(await whole(path));
  } catch (error) {
    if (error instanceof DatasetError) throw error;
    const position = /position (\d+)/.exec((error as Error).message)?.[1];
    throw new DatasetError(
      `${path} is not JSON${position === undefined ? "" : ` at character ${Number(position) + 1}`}`,
    );
  }
  const arrays = isObject(value) ? Object.values(value).filter((member) => Array.isArray(member)) : [value];
  const [rows] = arrays;
  if (arrays.length !== 1 || !Array.isArray(rows)) {
    throw new DatasetError(`${path} holds no array of rows: it takes [{…}, {…}] or an object with one such array`);
  }
  for (const [i, row] of rows.entries()) {
    const place = `${basename(path)}, record ${i + 1}`;
    yield isObject(row) ? { place, row } : { place, reason: "the record is not an object" };
  }
}

async function* csv(path: string): AsyncGenerator<Placed> {
  const parser = parseCsv({
    bom: true,
    columns: true,
    info: true,
    max_record_size: LONGEST_LINE,
    relax_column_count: true,
  });
  // What goes wrong with the file ends the parser, and who leaves the parser early closes the file.
  pipeline(createReadStream(path), parser, () => {});
  for await (const { record, info } of parser as AsyncIterable<{
    record: Record<string, unknown>;
    info: { lines: number; error?: { code: string } };
  }>) {
    const place = `${basename(path)}:${info.lines}`;
    // Copied, so that a column called __proto__ is a field like any other.
    if (info.error) yield { place, reason: "the row has another number of columns than the first line" };
    else yield { place, row: Object.fromEntries(Object.entries(record)) };
  }
}

async function* parquet(path: string): AsyncGenerator<Placed> {
  for await (const { begin, rows } of readParquet(path)) {
    for (const [i, row] of rows.entries()) yield { place: `${basename(path)}, row ${begin + i + 1}`, row };
  }
}
