/** `rot-cli train`: the main job. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { type Device, openDevice, OutOfMemoryError, UsageError } from "@rot/tensor";
import { type ConfigFile, configKeys, loadConfig, type Override, parseValue, type RunConfig } from "@rot/rot";
import { type RunEvents, type StageOutcome, trainRun } from "@rot/rot/node";
import { Command } from "commander";
import { findDataset, processedFolder } from "../evaluate/samples.ts";
import { ExitError, exitCodes } from "../exit-codes.ts";
import { quoted, readConfigFile } from "../flags.ts";
import type { Output } from "../program.ts";
import { stopSignal } from "../stop-signal.ts";
import { dryRun, lessMemory } from "../train/dry-run.ts";
import { writeRunPage } from "../train/page.ts";
import { numbers, trainingProgress } from "../train/progress.ts";
import { tuneFirst } from "../tuning.ts";
import { checkTinySettings, runTiny } from "../train/tiny.ts";
import { version } from "../version.ts";

interface Flags {
  readonly config?: string;
  readonly set: readonly string[];
  readonly resume?: string | boolean;
  readonly resume_from_checkpoint?: string;
  readonly num_gpus?: string;
  readonly adapter?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly [name: string]: unknown;
}

/** Flags that are keys of the configuration under another name. */
const keys: Readonly<Record<string, string>> = {
  model: "model",
  dataset: "data.dataset",
  format: "data.format",
  map: "data.map",
  "on-bad-row": "data.on_bad_row",
  stage: "stage",
  model_type: "model_type",
  output: "output",
  stage1_checkpoint: "stage1_checkpoint",
  batch_size: "training.batch_size",
  num_epochs: "training.num_epochs",
  max_steps: "training.max_steps",
  lr: "optimizer.lr",
  save_interval: "checkpoint.every",
  seed: "seed",
};

/** The command. */
export function train(output: Output): Command {
  const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];
  return new Command("train")
    .description("train a vision-language model to reason in pictures")
    .option("--config <file>", "YAML or JSON; the published configurations are understood too")
    .option("--model <folder>", "a Qwen3-VL checkpoint; tiny, the embedded model, by default")
    .option(
      "--dataset <name>",
      "a file of rows, a folder with train.jsonl, a name in the folder of processed data, synthetic, or tiny",
    )
    .option("--format <name>", "the form of the rows; found from the first row otherwise")
    .option("--map <fields>", "rows of another form: question=FIELD,cot=FIELD,answer=FIELD and perhaps id=FIELD")
    .option("--on-bad-row <what>", "rows that are damaged: fail: stop and list them, or skip: leave them out")
    .option("--stage <stage>", "1: the projection head; 2: the decoder; sft: text alone; all: 1, then 2")
    .option("--model_type <name>", "v2: in stages; v1: the whole decoder with the head, at once")
    .option("--stage1_checkpoint <path>", "run folder or checkpoint that stage 2 begins with")
    .option("--output <folder>", "run folder; runs/DATE-NAME by default")
    .option("--batch_size <n>", "samples on the device at one time")
    .option("--num_epochs <n>", "times that every sample is seen")
    .option("--max_steps <n>", "optimizer steps, whatever the epochs")
    .option("--lr <rate>", "peak learning rate")
    .option("--save_interval <n>", "optimizer steps from one checkpoint to the next")
    .option("--seed <n>", "of everything random")
    .option(
      "--set <key=value>",
      "any key of the configuration: --set optimizer.warmup_steps=5; may be repeated",
      collect,
      [],
    )
    .option("--resume [path]", "go on from the latest checkpoint of --output, or from the one at a path")
    .option("--resume_from_checkpoint <path>", "the same as --resume PATH")
    .option("--num_gpus <n>", "1: training on several is not built yet")
    .option("--deepspeed_config <file>", "accepted, and has no meaning here")
    .option("--local_rank <n>", "accepted, and has no meaning here")
    .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .option("--dry-run", "say what would be done and how much memory it takes, and do no step of it")
    .option("--json", "print every step as one line of JSON, or the plan of --dry-run as one object")
    .addHelpText("after", help)
    .action(async (flags: Flags) => run(output, flags));
}

async function run(output: Output, flags: Flags): Promise<void> {
  if (flags.num_gpus !== undefined && flags.num_gpus !== "1") {
    throw new UsageError(
      `--num_gpus is ${flags.num_gpus}: training on several GPUs is not built yet; leave it out or say 1`,
    );
  }
  const given = [...environment(), ...overrides(flags)];
  const resume = flags.resume_from_checkpoint ?? flags.resume ?? false;
  const begun = resume === false ? null : begunAt(resume, given);
  const file = await configOf(flags, begun);
  const { config: read, warnings } = loadConfig(file, given);
  const config = await withDataset(read, file);
  for (const warning of warnings) output.err(`${warning}\n`);
  for (const idle of ["deepspeed_config", "local_rank"]) {
    if (flags[idle] !== undefined) output.err(`--${idle} has no meaning here\n`);
  }
  const folder = begun ?? config.output ?? defaultFolder(config);
  if (begun !== null && file === null && config.model === "tiny" && !existsSync(join(begun, "plan.json"))) {
    throw new UsageError(
      `--resume: ${begun} holds neither config.yaml nor plan.json, so there is no run to go on with; leave --resume out to begin one`,
    );
  }
  const isTiny = checkTiny(config, given);
  if (flags.dryRun) {
    if (isTiny) {
      throw new UsageError(
        "--dry-run: the embedded model measures this machine when it begins, says what fits into 15 minutes, and does that; to plan a run of your own give --model FOLDER and --dataset FILE",
      );
    }
    await dryRun(config, { output, json: flags.json === true, folder, resume, adapter: flags.adapter });
    return;
  }
  const stop = stopSignal((text) => output.err(`${text}\n`));
  let device: Device | undefined;
  try {
    if (isTiny) {
      device = await openDevice({ adapter: flags.adapter });
      const tuned = tuneFirst(device, "the first step", output, stop.signal);
      const shippedBase = given.some(({ path }) => path === "model");
      const run = { output, json: flags.json === true, folder, seed: config.seed, shippedBase };
      const end = await runTiny({ ...run, resume: resume !== false, signal: stop.signal, afterStep: tuned, device });
      await writeRunPage(folder, output);
      if (end === "stopped") throw stoppedAfterCheckpoint(folder, stop.code);
      return;
    }
    let tuned: (() => Promise<void>) | undefined;
    const outcomes = await trainOn(config, folder, resume, {
      output,
      json: flags.json === true,
      signal: stop.signal,
      async openDevice() {
        device = await openDevice({ adapter: flags.adapter });
        tuned = tuneFirst(device, "the first step", output, stop.signal);
        return device;
      },
      afterStep: async () => tuned?.(),
    });
    if (outcomes.length > 0) await writeRunPage(folder, output);
    if (stop.code !== null && !isDone(config, outcomes)) {
      const steps = outcomes.at(-1)?.step ?? 0;
      if (steps > 0 || begun !== null) throw stoppedAfterCheckpoint(folder, stop.code);
      throw new ExitError("stopped before the first step; there is nothing to go on with", stop.code);
    }
  } catch (error) {
    throw explained(error);
  } finally {
    stop.dispose();
    device?.destroy();
  }
}

const stoppedAfterCheckpoint = (folder: string, code: number | null): ExitError =>
  new ExitError(
    `stopped after a checkpoint; go on with: rot-cli train --output ${quoted(folder)} --resume`,
    code ?? exitCodes.stopped,
  );

/**
 * Whether the embedded model is meant, on the embedded problems.
 *
 * @throws {UsageError} when only one of them is, or with settings that it does not read
 */
function checkTiny({ model, data }: RunConfig, given: readonly Override[]): boolean {
  if (model !== "tiny" && data.dataset !== "tiny") return false;
  if (model !== "tiny") throw new UsageError("--dataset: say what to train on: a file of rows, or synthetic");
  if (data.dataset !== "tiny") {
    throw new UsageError(
      `--model: the embedded model reads only its own problems; for ${data.dataset} give a Qwen3-VL folder`,
    );
  }
  checkTinySettings(given);
  return true;
}

/** Whether all stages ran to their end, though a signal came. */
const isDone = ({ stage, model_type: type }: RunConfig, outcomes: readonly StageOutcome[]): boolean =>
  outcomes.length === (stage === "all" && type === "v2" ? 2 : 1) && outcomes.every(({ end }) => end !== "stopped");

/** With what to do about it. */
function explained(error: unknown): unknown {
  if (!(error instanceof OutOfMemoryError)) return error;
  return new ExitError(`${error.message}\nThe device has no room for this. ${lessMemory}`, exitCodes.outOfMemory);
}

interface Training {
  readonly output: Output;
  readonly json: boolean;
  readonly signal: AbortSignal;
  readonly openDevice: () => Promise<Device>;
  readonly afterStep: () => Promise<void>;
}

async function trainOn(
  config: RunConfig,
  folder: string,
  resume: boolean | string,
  { output, json, signal, openDevice, afterStep }: Training,
): Promise<readonly StageOutcome[]> {
  const shown = trainingProgress(output);
  const print = (event: string, line: object): void => output.out(`${JSON.stringify({ event, ...line })}\n`);
  const events: RunEvents = {
    note: (text) => shown.note(text),
    stage: (name, path, steps, from) => shown.stage(name, path, steps, from),
    step(report) {
      shown.step(report);
      if (json) print("step", report);
      return afterStep();
    },
    validation(step, results) {
      shown.validation(step, results);
      if (json) print("validation", { step, ...results });
    },
    checkpoint(path) {
      if (json) print("checkpoint", { path });
    },
  };
  try {
    const manifest = { version, node: process.versions.node, command: process.argv.slice(2) };
    const outcomes = await trainRun(config, { openDevice, output: folder, resume, signal, events, manifest });
    shown.finish();
    for (const { stage, step, done, end, best, losses, checkpoint } of outcomes) {
      if (json) {
        print("end", { stage, step, done, end, best, losses, checkpoint });
        continue;
      }
      const count = step === 1 ? "1 step" : `${step} steps`;
      const how =
        done === 0 && end !== "stopped"
          ? `was finished already, after ${count}`
          : `${{ finished: "finished", early: "ended early", stopped: "stopped" }[end]} after ${count}; ${numbers(losses)}`;
      output.out(`${stage}: ${how}\n  ${checkpoint ?? "no checkpoint"}\n`);
      if (!best) continue;
      const { step: at, ...found } = best;
      output.out(`  best after step ${at}: ${numbers(found)}\n`);
    }
    return outcomes;
  } finally {
    shown.finish();
  }
}

/** The run folder that is gone on with. */
function begunAt(resume: true | string, given: readonly Override[]): string {
  const output = given.findLast(({ path }) => path === "output")?.value;
  if (typeof output === "string") return output;
  if (resume !== true) return runOf(resume);
  throw new UsageError("--resume: say which run, with --output FOLDER or --resume PATH");
}

/** A dataset by its name, as the published script takes it; files and what is built in stay what they are. */
async function withDataset(config: RunConfig, file: ConfigFile | null): Promise<RunConfig> {
  const { dataset } = config.data;
  if (dataset === "synthetic" || dataset === "tiny" || extname(dataset) !== "") return config;
  const folder = processedFolder(file && loadConfig(file).config);
  const found = await findDataset(dataset, "train", folder, "Name a file with --dataset FILE");
  return { ...config, data: { ...config.data, dataset: found } };
}

/** The file of --config; of a run that goes on its own one. */
async function configOf({ config }: Flags, begun: string | null): Promise<ConfigFile | null> {
  if (config !== undefined) return await readConfigFile(config);
  if (begun === null) return null;
  const name = join(begun, "config.yaml");
  // Without it trainRun says that there is no run.
  const text = await readFile(name, "utf8").catch(() => null);
  return text === null ? null : { name, text };
}

/** `ROT_OPTIMIZER_LR=1e-4` and the like. A key of a section that there is not is passed on, to be refused with its name. */
function environment(): Override[] {
  const paths = configKeys().map(({ path }) => path);
  const sections = new Set(paths.flatMap((path) => (path.includes(".") ? [path.slice(0, path.indexOf("."))] : [])));
  const nameOf = (path: string): string => `ROT_${path.toUpperCase().replaceAll(".", "_")}`;
  return Object.entries(process.env).flatMap(([where, text]) => {
    if (text === undefined || !where.startsWith("ROT_")) return [];
    const section = [...sections].find((name) => where.startsWith(`${nameOf(name)}_`));
    const path =
      paths.find((each) => nameOf(each) === where) ??
      (section === undefined ? undefined : `${section}.${where.slice(nameOf(section).length + 1).toLowerCase()}`);
    return path === undefined ? [] : [{ path, value: parseValue(text), where }];
  });
}

function overrides(flags: Flags): Override[] {
  const plain = Object.entries(keys).flatMap(([flag, path]) => {
    const text = flags[flag.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
    // Some keys are texts that may look like numbers.
    const asText =
      ["model", "model_type", "stage", "output", "stage1_checkpoint"].includes(path) || path.startsWith("data.");
    return typeof text === "string" ? [{ path, value: asText ? text : parseValue(text), where: `--${flag}` }] : [];
  });
  const set = flags.set.map((text) => {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--set ${text}: it takes KEY=VALUE, as in --set optimizer.lr=1e-4`);
    return { path: text.slice(0, at), value: parseValue(text.slice(at + 1)), where: `--set ${text.slice(0, at)}` };
  });
  return [...plain, ...set];
}

/** The run folder that a checkpoint is in. Runs may be called stage1 too. */
function runOf(path: string): string {
  const folder = path.replace(/\/+$/, "").replace(/\/checkpoints(\/[^/]*)?$/, "");
  return existsSync(join(folder, "run.json")) ? folder : folder.replace(/\/stage[12]$/, "");
}

function defaultFolder({ model, stage }: RunConfig): string {
  const name = (model.split(/[/\\]/).filter(Boolean).at(-1) ?? "model").replaceAll(/[^\w.-]+/g, "-").slice(0, 60);
  const date = new Date().toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");
  return join("runs", `${date}-${name}-${stage === "all" ? "rot" : stage === "sft" ? "sft" : `stage${stage}`}`);
}

const help = `
Examples:
  rot-cli train
  rot-cli train --model Qwen3-VL-2B-Instruct --dataset gsm8k/train.jsonl --stage 1 --output runs/gsm8k
  rot-cli train --model Qwen3-VL-2B-Instruct --dataset gsm8k/train.jsonl --stage 2 --stage1_checkpoint runs/gsm8k
  rot-cli train --model Qwen3-VL-2B-Instruct --dataset gsm8k/train.jsonl --dry-run
  rot-cli train --config run.yaml --set optimizer.lr=1e-5 --set loss.stage2_vision_weight=1
  rot-cli train --output runs/gsm8k --resume

Precedence: defaults, then --config, then ROT_SECTION_KEY in the environment, then flags and --set.
Ctrl-C, SIGTERM and SIGUSR1 finish the step, save and exit with 85 or 143; a second one ends at once.
Every key, its default and what it does: rot-cli config keys
`;
