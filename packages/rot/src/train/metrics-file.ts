/** `metrics.jsonl`: one object a line, one line a step, readable at any moment and across resumes. */
import { appendFile, readFile, truncate } from "node:fs/promises";

/** What one line holds: a step, and numbers and texts about it. */
export interface MetricsRow {
  readonly step: number;
  readonly [name: string]: number | string | boolean | null;
}

/** Appends to a metrics file. */
export interface MetricsFile {
  /** Writes a line, at once. What is no finite number is written as null. */
  append(row: MetricsRow): Promise<void>;
}

/**
 * Opens a metrics file for going on after a step: a last line that was torn by a kill, and the lines of steps that will
 * be done again, are cut off.
 *
 * @param after  the last step whose lines stay; −1 for a run that begins
 */
export async function openMetrics(path: string, after: number): Promise<MetricsFile> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  let kept = 0;
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\n", at) + 1;
    if (end === 0 || stepOf(text.slice(at, end)) > after) break;
    kept = at = end;
  }
  if (kept < text.length) await truncate(path, Buffer.byteLength(text.slice(0, kept)));
  return { append: (row) => appendFile(path, `${JSON.stringify(row)}\n`) };
}

function stepOf(line: string): number {
  try {
    const { step } = JSON.parse(line) as MetricsRow;
    return typeof step === "number" ? step : Infinity;
  } catch {
    return Infinity;
  }
}
