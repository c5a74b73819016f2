/** `rot-cli train`: the main job. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Device, openDevice } from "@rot/tensor";
import { configKeys, loadConfig, type Override, parseValue, type RunConfig } from "@rot/rot";
import { type RunEvents, trainRun } from "@rot/rot/node";
import { Command, InvalidArgumentError } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";
import type { Output } from "../program.ts";
import { stopSignal } from "../stop-signal.ts";
import { trainingProgress } from "../train/progress.ts";
import { version } from "../version.ts";

interface Flags {
  readonly config?: string;
  readonly set: readonly string[];
  readonly resume?: string | boolean;
  readonly resume_from_checkpoint?: string;
  readonly num_gpus?: string;
  readonly adapter?: string;
  readonly json?: boolean;
  readonly [name: string]: unknown;
}

/** Flags that are keys of the configuration under another name. */
const keys: Readonly<Record<string, string>> = {
  model: "model",
  dataset: "data.dataset",
  stage: "stage",
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
    .option("--dataset <name>", "a file of rows, synthetic, or tiny")
    .option("--stage <stage>", "1: the projection head; 2: the decoder; sft: text alone; all: 1, then 2")
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
    .option("--json", "print every step as one line of JSON")
    .addHelpText("after", help)
    .action(async (flags: Flags) => run(output, flags));
}

async function run(output: Output, flags: Flags): Promise<void> {
  if (flags.num_gpus !== undefined && flags.num_gpus !== "1") {
    throw new InvalidArgumentError(
      `--num_gpus is ${flags.num_gpus}: training on several GPUs is not built yet; leave it out or say 1`,
    );
  }
  const file = flags.config === undefined ? null : { name: flags.config, text: await readConfig(flags.config) };
  const { config, warnings } = loadConfig(file, [...environment(), ...overrides(flags)]);
  for (const warning of warnings) output.err(`${warning}\n`);
  for (const idle of ["deepspeed_config", "local_rank"]) {
    if (flags[idle] !== undefined) output.err(`--${idle} has no meaning here\n`);
  }
  const resume = flags.resume_from_checkpoint ?? flags.resume ?? false;
  const folder = config.output ?? (typeof resume === "string" ? runOf(resume) : defaultFolder(config));
  const stop = stopSignal((text) => output.err(`${text}\n`));
  const device = await openDevice({ adapter: flags.adapter });
  try {
    await trainOn(device, config, folder, resume, stop, { output, json: flags.json === true });
  } finally {
    stop.dispose();
    device.destroy();
  }
  if (stop.code !== null) {
    throw new ExitError(`stopped after a checkpoint; go on with: rot-cli train --output ${folder} --resume`, stop.code);
  }
}

async function trainOn(
  device: Device,
  config: RunConfig,
  folder: string,
  resume: boolean | string,
  stop: ReturnType<typeof stopSignal>,
  { output, json }: { readonly output: Output; readonly json: boolean },
): Promise<void> {
  const shown = trainingProgress(output);
  const events: RunEvents = {
    note: (text) => shown.note(text),
    stage: (name, path, steps, from) => shown.stage(name, path, steps, from),
    step(report) {
      shown.step(report);
      if (json) output.out(`${JSON.stringify(report)}\n`);
    },
    validation(step, results) {
      shown.validation(step, results);
      if (json) output.out(`${JSON.stringify({ step, ...results })}\n`);
    },
    checkpoint: () => {},
  };
  const outcomes = await trainRun(config, {
    device,
    output: folder,
    resume,
    signal: stop.signal,
    events,
    manifest: { version, node: process.versions.node, command: process.argv.slice(2) },
  });
  shown.finish();
  for (const { stage, step, end, losses, checkpoint } of outcomes) {
    const values = Object.entries(losses).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    const line = { stage, step, end, losses, checkpoint };
    output.out(
      json ? `${JSON.stringify(line)}\n` : `${stage}: ${step} steps, ${end}; ${values.join(", ")}\n  ${checkpoint}\n`,
    );
  }
}

async function readConfig(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new ExitError(`--config ${path}: ${(error as Error).message}`, exitCodes.usage);
  }
}

/** `ROT_OPTIMIZER_LR=1e-4` and the like. */
function environment(): Override[] {
  return configKeys().flatMap(({ path }) => {
    const where = `ROT_${path.toUpperCase().replaceAll(".", "_")}`;
    const text = process.env[where];
    return text === undefined ? [] : [{ path, value: parseValue(text), where }];
  });
}

function overrides(flags: Flags): Override[] {
  const plain = Object.entries(keys).flatMap(([flag, path]) => {
    const text = flags[flag];
    // Some keys are texts that may look like numbers.
    const asText = ["model", "data.dataset", "stage", "output", "stage1_checkpoint"].includes(path);
    return typeof text === "string" ? [{ path, value: asText ? text : parseValue(text), where: `--${flag}` }] : [];
  });
  const set = flags.set.map((text) => {
    const at = text.indexOf("=");
    if (at < 1) throw new InvalidArgumentError(`--set ${text}: it takes KEY=VALUE, as in --set optimizer.lr=1e-4`);
    return { path: text.slice(0, at), value: parseValue(text.slice(at + 1)), where: `--set ${text.slice(0, at)}` };
  });
  return [...plain, ...set];
}

/** The run folder that a checkpoint is in. */
const runOf = (path: string): string => path.replace(/\/checkpoints(\/[^/]*)?\/?$/, "").replace(/\/stage[12]$/, "");

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
  rot-cli train --config run.yaml --set optimizer.lr=1e-5 --set loss.stage2_vision_weight=1
  rot-cli train --output runs/gsm8k --resume

Precedence: defaults, then --config, then ROT_SECTION_KEY in the environment, then flags and --set.
Ctrl-C, SIGTERM and SIGUSR1 finish the step, save and exit with 85 or 143; a second one ends at once.
Every key, its default and what it does: rot-cli config keys
`;
