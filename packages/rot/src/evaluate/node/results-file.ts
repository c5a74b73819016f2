/** The answers of an evaluation on disk: line by line while it runs, then one file with settings, rows and summary. Node only. */
import { appendFile, mkdir, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { z } from "zod";
import type { Sample } from "../../data/sample.ts";
import { parseJson } from "../../node/json.ts";
import { isThere } from "../../node/paths.ts";
import { arms } from "../ablations.ts";
import { type Row, type Summary, summarize } from "../rows.ts";

/** What answers depend on, by the name users know it by. */
export type Settings = Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>>;

/** How results are written. */
export interface ResultsOptions {
  readonly format: "json" | "jsonl";
  readonly settings: Settings;
  /** Goes on with what is there. */
  readonly resume: boolean;
  /** Rows of a sample that is finished. */
  readonly rowsPerSample: number;
}

/** The results of one evaluation. */
export interface ResultsFile {
  /** Samples whose rows were there already. */
  readonly done: ReadonlySet<Sample["id"]>;
  /** All that are there. */
  readonly rows: readonly Row[];
  /** Adds the rows of whole samples; they are on disk when it returns. */
  append(rows: readonly Row[]): Promise<void>;
  /** Writes the file itself, in one step, and removes what it was gathered in. */
  finish(): Promise<Summary>;
}

const row = z.looseObject({
  id: z.union([z.string(), z.number()]),
  arm: z.enum(arms),
  seed: z.number(),
  prediction: z.string(),
  latents: z.number().nullable(),
  tokens: z.number(),
  finish: z.enum(["stop", "length", "error"]),
  seconds: z.number(),
});
const settingsLine = z.strictObject({ settings: z.record(z.string(), z.unknown()) });

/** What is gathered until the evaluation is whole. */
const partialOf = (path: string): string => `${path}.partial`;

/**
 * Opens results for writing. Until {@link ResultsFile.finish} they are in `PATH.partial`, a JSON object a line.
 *
 * @throws {UsageError} when there are unfinished results and `resume` was not asked for, or they were made under other settings
 */
export async function openResults(path: string, options: ResultsOptions): Promise<ResultsFile> {
  const partial = partialOf(path);
  await mkdir(dirname(path), { recursive: true });
  const isUnfinished = await isThere(partial);
  if (isUnfinished && !options.resume) {
    throw new UsageError(
      `${partial} has the answers of an evaluation that was not finished: go on with it by --resume, or delete it`,
    );
  }
  const from = isUnfinished ? partial : path;
  const before = options.resume && (await isThere(from)) ? await readResults(from) : null;
  if (before?.settings) checkSettings(before.settings, options.settings, from);
  const rows = wholeSamples(before?.rows ?? [], options.rowsPerSample);
  // Written anew: a line that a kill has torn, and a sample of which only some rows are there, must not stay.
  await writeFileAtomically(partial, lines([{ settings: options.settings }, ...rows]));
  return {
    done: new Set(rows.map(({ id }) => id)),
    rows,
    async append(added) {
      rows.push(...added);
      await appendFile(partial, Buffer.concat([...lines(added)]));
    },
    async finish() {
      const summary = summarize(rows);
      const { settings } = options;
      const bytes =
        options.format === "jsonl"
          ? lines([{ settings }, ...rows, { summary }])
          : [
              Buffer.from(
                `${JSON.stringify({ settings, ...summary, total_samples: countSamples(rows), sample_results: rows }, null, 2)}\n`,
              ),
            ];
      await writeFileAtomically(path, bytes);
      await rm(partial, { force: true });
      return summary;
    },
  };
}

const countSamples = (rows: readonly Row[]): number => new Set(rows.map(({ id }) => id)).size;

function* lines(values: Iterable<unknown>): Generator<Uint8Array> {
  for (const value of values) yield Buffer.from(`${JSON.stringify(value)}\n`);
}

/** The settings and rows of a file: gathered, or finished in either format. A last line that is torn is left out. */
async function readResults(path: string): Promise<{ settings: Settings | null; rows: Row[] }> {
  const text = await readFile(path, "utf8");
  const whole = parseJson(text) as { readonly settings?: unknown; readonly sample_results?: unknown } | null;
  const parsed: unknown[] = Array.isArray(whole?.sample_results)
    ? [{ settings: whole.settings }, ...(whole.sample_results as unknown[])]
    : text.split("\n").map(parseJson);
  const first = settingsLine.safeParse(parsed[0]);
  if (!first.success && text.trim() !== "") {
    throw new UsageError(
      `${path} is no result of rot-cli evaluate: choose another --output_file, or leave --resume out to replace it`,
    );
  }
  return { settings: first.success ? (first.data.settings as Settings) : null, rows: parsed.filter(isRow) };
}

const isRow = (value: unknown): value is Row => row.safeParse(value).success;

/** The rows of samples of which all are there, in their order. */
function wholeSamples(rows: readonly Row[], perSample: number): Row[] {
  const counts = new Map<Sample["id"], number>();
  for (const { id } of rows) counts.set(id, (counts.get(id) ?? 0) + 1);
  return rows.filter(({ id }) => counts.get(id) === perSample);
}

function checkSettings(before: Settings, now: Settings, path: string): void {
  for (const name of new Set([...Object.keys(before), ...Object.keys(now)])) {
    const [a, b] = [JSON.stringify(before[name]), JSON.stringify(now[name])];
    if (a === b) continue;
    throw new UsageError(
      `${path} was made with ${name} ${String(a).slice(0, 100)}, now it is ${String(b).slice(0, 100)}: use the same, or another --output_file`,
    );
  }
}
