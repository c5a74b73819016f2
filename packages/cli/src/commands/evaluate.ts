/** `rot-cli evaluate`: how well a checkpoint answers, and what its latents are worth. */
import { existsSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import {
  type Arm,
  arms,
  checkEvaluation,
  type EvaluateOptions,
  evaluate as evaluateSamples,
  type EvaluationRow,
  type Subject,
  type Summary,
} from "@rot/rot";
import {
  type Bundle,
  isTiny,
  measureOf,
  openResults,
  rememberEvaluation,
  runOfCheckpoint,
  type Settings,
  writeRunReport,
} from "@rot/rot/node";
import { openDevice } from "@rot/tensor";
import { Command, InvalidArgumentError, Option } from "commander";
import { type Asked, readSamples, type SampleFlags } from "../evaluate/samples.ts";
import { printSummary } from "../evaluate/table.ts";
import { ExitError, exitCodes } from "../exit-codes.ts";
import {
  adapterFlag,
  decimal,
  fieldMap,
  openSubject,
  pathOf,
  readConfig,
  type SubjectFlags,
  subjectOptions,
  warnOfIdleFlags,
  whole,
} from "../flags.ts";
import { printable } from "../generate/answer.ts";
import { progress } from "../progress.ts";
import type { Output } from "../program.ts";
import { type StopSignal, stopSignal } from "../stop-signal.ts";
import { tuneFirst } from "../tuning.ts";

/** The flags of an evaluation. */
export interface EvaluateFlags extends SampleFlags, SubjectFlags {
  readonly max_new_tokens: number;
  readonly temperature: number;
  readonly top_p: number;
  readonly mode: "evaluate" | "generate";
  readonly answers: "robust" | "reference";
  readonly ablate: readonly Arm[];
  readonly batch_size: number;
  readonly seed: number;
  readonly seeds: number;
  readonly output_file?: string;
  readonly output_format: "json" | "jsonl";
  readonly resume?: boolean;
  readonly adapter?: string;
  readonly json?: boolean;
}

/** The command. Flags with underscores are those of the reference's script. */
export function evaluate(output: Output): Command {
  return subjectOptions(new Command("evaluate"))
    .description("answer questions with a checkpoint, count what is right, and see whether its latents do the work")
    .option("--data_file <file>", "rows to ask: JSONL, JSON, CSV, Parquet or text; wins over --dataset")
    .option(
      "--dataset <name>",
      "NAME_SPLIT_processed.jsonl of the data folder, a file, synthetic, or tiny; gsm8k by default, and tiny for the embedded model",
    )
    .addOption(new Option("--split <name>", "which part of the dataset").choices(["train", "test"]).default("test"))
    .option("--max_samples <rows>", "only the first so many", whole(1))
    .option("--format <name>", "the form of the rows; found from the first row otherwise")
    .option(
      "--map <fields>",
      "rows of another form: question=FIELD,cot=FIELD,answer=FIELD and perhaps id=FIELD",
      fieldMap,
    )
    .addOption(
      new Option("--on-bad-row <what>", "rows that are damaged: stop and list them, or leave them out")
        .choices(["fail", "skip"])
        .default("fail"),
    )
    .option("--question <text>", "ask this one question, and print the answer")
    .addOption(
      new Option("--mode <name>", "score the answers, or only write them")
        .choices(["evaluate", "generate"])
        .default("evaluate"),
    )
    .addOption(
      new Option("--answers <rule>", "how answers are read: robust, or reference: as published, faults included")
        .choices(["robust", "reference"])
        .default("robust"),
    )
    .option(
      "--ablate <arms>",
      `other latents besides the model's own: all, or some of ${arms.slice(1).join(",")}`,
      armList,
      [],
    )
    .option("--max_new_tokens <count>", "tokens of an answer at most", whole(1), 256)
    .option("--temperature <number>", "0 takes the likeliest token", decimal(Infinity), 0)
    .option("--top_p <share>", "draw only among the likeliest tokens of this share; 1 is all", decimal(1), 1)
    .option("--seed <number>", "the first seed; an answer depends on it and its row alone", whole(0), 0)
    .option("--seeds <count>", "answer so often, each time from another seed; needs a --temperature", whole(1), 1)
    .option("--batch_size <count>", "questions that are answered at once", whole(1), 8)
    .option("--output_file <file>", "by default outputs/results/DATA_CHECKPOINT_eval.FORMAT")
    .addOption(
      new Option("--output_format <name>", "either has all rows and the summary")
        .choices(["json", "jsonl"])
        .default("json"),
    )
    .option("--resume", "go on with what the output file has")
    .option(...adapterFlag)
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli evaluate --checkpoint runs/first --data_file gsm8k/test.jsonl --max_samples 200\n" +
        "  rot-cli evaluate --checkpoint runs/20261121-tiny-rot --ablate all\n" +
        "  rot-cli evaluate --checkpoint runs/first --dataset synthetic --ablate all --output_format jsonl\n" +
        "  rot-cli evaluate --checkpoint runs/first --data_file test.jsonl --temperature 1 --top_p 0.9 --seeds 5\n" +
        '  rot-cli evaluate --checkpoint runs/first --question "Ada has 3 apples and buys 4. How many has she?"\n' +
        "\nOf a run's checkpoint the summary and some rows also go to the run's folder, and its report.html is written anew.\n",
    )
    .action((flags: EvaluateFlags) => answerSamples(flags, output));
}

function armList(value: string): readonly Arm[] {
  const names = value === "all" ? arms : value.split(",").map((name) => name.trim());
  for (const name of names) {
    if (!(arms as readonly string[]).includes(name)) {
      throw new InvalidArgumentError(`There is no "${name}": there are ${arms.join(", ")}, and all.`);
    }
  }
  return names as readonly Arm[];
}

/** Answers the samples that the flags name. */
export async function answerSamples(flags: EvaluateFlags, output: Output): Promise<void> {
  const config = await readConfig(flags, output);
  const path = pathOf(flags);
  warnOfIdleFlags(flags, output);
  const asked = await readSamples(flags, config, (await isTiny(path)) ? "tiny" : "other");
  if (asked.bad > 0) output.err(`${asked.bad} rows cannot be used and are left out\n`);
  const device = await openDevice({ adapter: flags.adapter });
  const stop = stopSignal((text) => output.err(`${text}\n`));
  try {
    const { bundle, subject } = await openSubject(flags, config, device, output);
    const tuned = tuneFirst(device, "the first answers", output, stop.signal);
    if (flags.question === undefined) await evaluateAll(flags, { bundle, subject, tuned }, asked, output, stop);
    else await answerOne(flags, subject, asked, output);
    await tuned();
  } finally {
    stop.dispose();
    device.destroy();
  }
}

function optionsOf(flags: EvaluateFlags): Omit<EvaluateOptions, "measure" | "done"> {
  return {
    arms: [...new Set<Arm>(["own", ...flags.ablate])],
    seeds: Array.from({ length: flags.seeds }, (_, i) => flags.seed + i),
    batchSize: flags.batch_size,
    maxNewTokens: flags.max_new_tokens,
    temperature: flags.temperature,
    topP: flags.top_p,
    rule: flags.mode === "evaluate" && flags.question === undefined ? flags.answers : null,
  };
}

/** One question: the answer goes to stdout. */
async function answerOne(flags: EvaluateFlags, subject: Subject, { samples }: Asked, output: Output): Promise<void> {
  for await (const rows of evaluateSamples(subject, samples, optionsOf(flags))) {
    const failed = rows.find(({ finish }) => finish === "error");
    if (failed) throw new ExitError(reasonOf(failed), exitCodes.badInput);
    for (const row of rows) output.out(flags.json ? `${JSON.stringify(row)}\n` : describe(row, rows.length > 1));
  }
}

const reasonOf = ({ prediction }: EvaluationRow): string => prediction.replace(/^ERROR: /, "");

const describe = ({ arm, seed, prediction, latents }: EvaluationRow, several: boolean): string =>
  several ? `${arm}, seed ${seed}, ${latents} latents: ${printable(prediction)}\n` : `${printable(prediction)}\n`;

interface Opened {
  readonly bundle: Bundle;
  readonly subject: Subject;
  /** What {@link tuneFirst} gives. */
  readonly tuned: () => Promise<void>;
}

async function evaluateAll(
  flags: EvaluateFlags,
  { bundle, subject, tuned }: Opened,
  { name, samples }: Asked,
  output: Output,
  stop: StopSignal,
): Promise<void> {
  const options = optionsOf(flags);
  // Whatever can be refused is so before a file is begun that the next try would have to go on with.
  checkEvaluation(subject, samples, options);
  const measure = await measureOf(bundle);
  const run = await runOfCheckpoint(bundle.path);
  const ending = flags.mode === "evaluate" ? "eval" : "results";
  const file =
    flags.output_file ??
    join("outputs/results", `${name}_${stemOf(bundle.path, run)}_${ending}.${flags.output_format}`);
  if (existsSync(file) && !flags.resume) {
    output.err(`${file} is replaced when this is done; --output_file OTHER keeps it, --resume goes on with it\n`);
  }
  const results = await openResults(file, {
    format: flags.output_format,
    settings: settingsOf(flags, bundle, subject, options, name),
    resume: flags.resume ?? false,
    rowsPerSample: options.arms.length * options.seeds.length,
  });
  const total = samples.length;
  let done = samples.filter(({ id }) => results.done.has(id)).length;
  const report = progress(output, { label: flags.mode, unit: "samples", from: done });
  if (done > 0) output.err(`${done} of ${total} samples are answered already\n`);
  let [right, scored] = [0, 0];
  let failure = "see the rows for why";
  const count = (rows: readonly EvaluationRow[]): void => {
    for (const row of rows) {
      if (row.finish === "error") failure = reasonOf(row);
      if (row.arm !== "own" || row.is_correct === undefined) continue;
      scored++;
      if (row.is_correct) right++;
    }
  };
  count(results.rows);
  for await (const rows of evaluateSamples(subject, samples, { ...options, measure, done: results.done })) {
    await results.append(rows);
    await tuned();
    done += new Set(rows.map(({ id }) => id)).size;
    count(rows);
    report.update({ done, total, ...(scored > 0 && { note: `Pass@1 ${((100 * right) / scored).toFixed(1)} %` }) });
    if (stop.code !== null && done < total) {
      throw new ExitError(
        `stopped after ${done} of ${total} samples: go on with the same command and --resume`,
        stop.code,
      );
    }
  }
  report.finish();
  const summary = await results.finish();
  output.err(`all rows and the summary are in ${file}\n`);
  if (flags.mode === "evaluate")
    await tellRun(run, resolve(bundle.path), name, { summary, rows: results.rows }, output);
  output.out(flags.json ? `${JSON.stringify(summary, null, 2)}\n` : printSummary(summary));
  const failures = summary.arms.own?.failed ?? 0;
  if (failures > 0)
    output.err(`${failures} samples could not be answered; they count as wrong (prediction "ERROR: …")\n`);
  if (failures === total) throw new ExitError(`no sample could be answered: ${failure}`, exitCodes.badInput);
}

/** The run that a checkpoint is of also hears what came out. That it cannot be written there spoils nothing. */
async function tellRun(
  run: string | null,
  path: string,
  name: string,
  outcome: { readonly summary: Summary; readonly rows: readonly EvaluationRow[] },
  output: Output,
): Promise<void> {
  if (run === null) return;
  try {
    await rememberEvaluation(run, `${name}-${namesBelow(run, path)}`, { checkpoint: path, ...outcome });
    output.err(`the run's page has it too: ${await writeRunReport(run)}\n`);
  } catch (error) {
    output.err(`the run's page could not be written: ${(error as Error).message}\n`);
  }
}

/** What answers depend on: results are only gone on with under the same. */
function settingsOf(
  flags: EvaluateFlags,
  bundle: Bundle,
  subject: Subject,
  options: Omit<EvaluateOptions, "measure" | "done">,
  data: string,
): Settings {
  const policy = subject.latents?.policy;
  return {
    checkpoint: resolve(bundle.path),
    base: bundle.base.weights,
    stage1_checkpoint: flags.stage1_checkpoint ?? null,
    data: flags.data_file ?? data,
    mode: flags.mode,
    answers: flags.answers,
    arms: options.arms,
    seeds: options.seeds,
    temperature: flags.temperature,
    top_p: flags.top_p,
    max_new_tokens: flags.max_new_tokens,
    dtype: flags.dtype ?? null,
    latents: policy ? JSON.stringify(policy) : null,
  };
}

/** `first-stage2-step-00000200` of `runs/first/stage2/checkpoints/step-00000200`: no two runs or stages share a name. */
function stemOf(path: string, run: string | null): string {
  const full = resolve(path);
  const parent = dirname(full);
  const from = dirname(run ?? (basename(parent) === "checkpoints" ? dirname(parent) : full));
  return namesBelow(from, full);
}

const namesBelow = (folder: string, path: string): string =>
  relative(folder, path)
    .split(sep)
    .filter((name) => name !== "checkpoints")
    .join("-");
