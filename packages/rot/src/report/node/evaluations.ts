/** Evaluations as the folder of a run remembers them: what they came to, and some of their rows. Node only. */
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { z } from "zod";
import type { Row, Summary } from "../../evaluate/rows.ts";
import { parseJson } from "../../node/json.ts";
import { isFile } from "../../node/paths.ts";
import type { EvaluationRecord } from "../run/run-page.ts";

const FOLDER = "evaluations";
/** Rows that are kept. */
const ROWS = 12;
/** Evaluations that a page shows, the last by name. */
const MOST = 20;
const MOST_BYTES = 2 ** 22;

const number = z.number();
const schema = z.looseObject({
  name: z.string(),
  checkpoint: z.string(),
  summary: z.looseObject({
    total: number,
    arms: z.record(
      z.string(),
      z.looseObject({
        total: number,
        failed: number,
        latents: number,
        seconds_per_sample: number,
        tokens_per_second: number,
        score: z.looseObject({ pass_at_1: number, interval: z.tuple([number, number]) }).optional(),
      }),
    ),
  }),
  rows: z.array(
    z.looseObject({
      question: z.string(),
      ground_truth: z.string(),
      prediction: z.string(),
      latents: number.nullable(),
      is_correct: z.boolean().optional(),
    }),
  ),
});

/** The run folder that a checkpoint or one of its stages lies in; null for one that lies by itself. */
export async function runOfCheckpoint(checkpoint: string): Promise<string | null> {
  const stage = dirname(resolve(checkpoint));
  if (!stage.endsWith("checkpoints")) return null;
  for (const folder of [dirname(dirname(stage)), dirname(stage)]) {
    for (const file of ["run.json", "plan.json", "metrics.jsonl"]) {
      if (await isFile(join(folder, file))) return folder;
    }
  }
  return null;
}

/** Adds an evaluation to a run; one of the same name is replaced. */
export async function rememberEvaluation(
  run: string,
  name: string,
  { checkpoint, summary, rows }: { checkpoint: string; summary: Summary; rows: readonly Row[] },
): Promise<void> {
  const own = rows.filter(({ arm }) => arm === "own").slice(0, ROWS);
  const folder = join(run, FOLDER);
  await mkdir(folder, { recursive: true });
  const text = `${JSON.stringify({ name, checkpoint, summary, rows: own }, null, 2)}\n`;
  await writeFileAtomically(join(folder, `${name.replaceAll(/[^\w.-]+/g, "-").slice(0, 100)}.json`), [
    Buffer.from(text),
  ]);
}

/** The evaluations of a run; files that are something else are left out. */
export async function readEvaluations(run: string): Promise<readonly EvaluationRecord[]> {
  const names = (await readdir(join(run, FOLDER)).catch(() => [])).filter((name) => name.endsWith(".json"));
  const all: EvaluationRecord[] = [];
  for (const name of names.toSorted().slice(-MOST)) {
    const file = join(run, FOLDER, name);
    const found = await stat(file).catch(() => null);
    if (!found?.isFile() || found.size > MOST_BYTES) continue;
    const parsed = schema.safeParse(parseJson(await readFile(file, "utf8")));
    if (parsed.success) all.push(parsed.data as unknown as EvaluationRecord);
  }
  return all;
}
