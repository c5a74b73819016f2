/** `metrics.jsonl`: one object a line, one line a step, readable at any moment and across resumes. */
import { appendFile, open, readFile, truncate } from "node:fs/promises";
import { parseJson } from "../node/json.ts";

/** What one line holds: a step, and numbers and texts about it. */
export interface MetricsRow {
  readonly step: number;
  readonly [name: string]: number | string | boolean | null;
}

/** Appends to a metrics file. */
export interface MetricsFile {
  /** The lines that stayed. */
  readonly kept: readonly MetricsRow[];
  /** Writes a line, at once. What is no finite number is written as null. */
  append(row: MetricsRow): Promise<void>;
  /** Makes all lines outlast a loss of power. */
  sync(): Promise<void>;
}

/**
 * Opens a metrics file for going on after a step: a last line that was torn by a kill, and the lines of steps that will
 * be done again, are cut off.
 *
 * @param stays  whether a line does; none after the first one that does not
 */
export async function openMetrics(path: string, stays: (row: MetricsRow) => boolean): Promise<MetricsFile> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const kept: MetricsRow[] = [];
  let length = 0;
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\n", at) + 1;
    const row = end === 0 ? null : rowOf(text.slice(at, end));
    if (!row || !stays(row)) break;
    kept.push(row);
    length = at = end;
  }
  if (length < text.length) await truncate(path, Buffer.byteLength(text.slice(0, length)));
  return {
    kept,
    append: (row) => appendFile(path, `${JSON.stringify(row)}\n`),
    async sync() {
      const handle = await open(path, "a");
      await handle.sync().finally(() => handle.close());
    },
  };
}

function rowOf(line: string): MetricsRow | null {
  const row = parseJson(line) as MetricsRow | null;
  return typeof row?.step === "number" ? row : null;
}
