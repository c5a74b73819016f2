/** Reads what a run folder says of itself, however it ended. Node only. */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { UsageError } from "@rot/tensor";
import { readLines } from "../../data/node/lines.ts";
import { parseJson } from "../../node/json.ts";
import type { TinyResults } from "../../tiny/results.ts";
import { tinyTable } from "../../tiny/table.ts";
import type { RunRecord, StageRecord } from "../run/run-page.ts";
import { Thinned } from "../run/thinned.ts";
import { readEvaluations } from "./evaluations.ts";

/** Stages in the order in which they are trained; others follow. */
const order = ["reading", "chains", "direct", "stage1", "stage2", "without-stage1", "sft"];
/** Numbers of a step that are no losses. */
const counted = ["samples", "tokens", "latents"];
const others = new Set(["step", "learning_rate", "gradient_norm", ...counted]);

/** Files beyond this are no metrics of ours. */
const MOST_BYTES = 2 ** 30;

/**
 * Reads a run. A last line that a kill has torn is left out, and so is what cannot be read.
 *
 * @throws {UsageError} when there is no run in the folder
 */
export async function readRun(folder: string): Promise<RunRecord> {
  const inner = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const named = inner.flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  const stages: StageRecord[] = [];
  const rank = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  for (const name of ["", ...named.toSorted((a, b) => rank(a) - rank(b))]) {
    const stage = await readStage(join(folder, name), name === "" ? basename(resolve(folder)) : name);
    if (stage) stages.push(stage);
  }
  const [manifest, config] = [await jsonOf(join(folder, "run.json")), await textOf(join(folder, "config.yaml"))];
  const results = await jsonOf(join(folder, "results.json"));
  if (stages.length === 0 && manifest === null && results === null) {
    throw new UsageError(`${folder} holds no run: neither metrics.jsonl, here or a folder below, nor run.json`);
  }
  return {
    name: basename(resolve(folder)),
    facts: factsOf(manifest),
    config,
    stages,
    evaluations: await readEvaluations(folder),
    table: tableOf(results),
  };
}

async function readStage(folder: string, name: string): Promise<StageRecord | null> {
  const rows = linesOf(join(folder, "metrics.jsonl"));
  const milliseconds = new Map<number, number>();
  let seconds = 0;
  for await (const row of linesOf(join(folder, "timing.jsonl"))) {
    if (typeof row["milliseconds"] !== "number" || typeof row["step"] !== "number") continue;
    milliseconds.set(row["step"], row["milliseconds"]);
    seconds += row["milliseconds"] / 1000;
  }
  const curves = { losses: new Curves(), validation: new Curves(), perSecond: new Curves(), rest: new Curves() };
  let steps = 0;
  for await (const row of rows) {
    const step = row["step"];
    if (typeof step !== "number") continue;
    steps = Math.max(steps, step);
    const isValidation = "validation" in row;
    for (const [key, value] of Object.entries(row)) {
      if (typeof value !== "number" || key.startsWith("total_")) continue;
      if (isValidation) {
        if (key !== "step") curves.validation.add(key, step, value);
      } else if (!others.has(key)) curves.losses.add(key, step, value);
      else if (key === "learning_rate" || key === "gradient_norm") curves.rest.add(key, step, value);
      else if (counted.includes(key)) {
        const time = milliseconds.get(step);
        if (time) curves.perSecond.add(key, step, (1000 * value) / time);
      }
    }
  }
  if (steps === 0) return null;
  const { learning_rate: learningRate = [], gradient_norm: gradientNorm = [] } = curves.rest.all;
  const { losses, validation, perSecond } = curves;
  return {
    name,
    steps,
    losses: losses.all,
    validation: validation.all,
    perSecond: perSecond.all,
    learningRate,
    gradientNorm,
    seconds,
  };
}

/** Names beyond this are no losses of ours. */
const MOST_CURVES = 16;

class Curves {
  readonly #curves = new Map<string, Thinned>();

  add(name: string, x: number, y: number): void {
    let curve = this.#curves.get(name);
    if (!curve) {
      if (this.#curves.size >= MOST_CURVES) return;
      this.#curves.set(name, (curve = new Thinned()));
    }
    curve.add(x, y);
  }

  get all() {
    return Object.fromEntries([...this.#curves].map(([name, curve]) => [name, curve.points]));
  }
}

/** The objects of a file of lines; none where there is no such file. */
async function* linesOf(file: string): AsyncGenerator<Readonly<Record<string, unknown>>> {
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return;
  if (found.size > MOST_BYTES) throw new UsageError(`${file} is longer than ${MOST_BYTES} bytes`);
  for await (const line of readLines(file)) {
    const row = "text" in line ? parseJson(line.text) : null;
    if (typeof row === "object" && row !== null) yield row as Readonly<Record<string, unknown>>;
  }
}

/** Longer files are no manifests and configurations of ours. */
const MOST_TEXT = 2 ** 24;

async function textOf(file: string): Promise<string | null> {
  const found = await stat(file).catch(() => null);
  return found?.isFile() && found.size <= MOST_TEXT ? await readFile(file, "utf8") : null;
}

const jsonOf = async (file: string): Promise<unknown> => parseJson((await textOf(file)) ?? "null");

/** What a manifest says, one line a key. */
function factsOf(manifest: unknown): [string, string][] {
  if (typeof manifest !== "object" || manifest === null) return [];
  return Object.entries(manifest)
    .filter(([key]) => key !== "format")
    .map(([key, value]) => [key, plain(value)]);
}

function plain(value: unknown): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(plain).join(" ");
  if (typeof value === "object" && value !== null) return Object.values(value).map(plain).join(", ");
  return JSON.stringify(value) ?? "";
}

/** The table of the embedded default; null of other runs, and of files that are something else. */
function tableOf(results: unknown): string | null {
  if (typeof results !== "object" || results === null || !("rows" in results) || !("problems" in results)) return null;
  try {
    return tinyTable(results as TinyResults);
  } catch {
    return null; // another version's
  }
}
