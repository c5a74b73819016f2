/** Flags that several commands have. */
import { readFile } from "node:fs/promises";
import type { FloatDType } from "@rot/models";
import {
  type ConfigFile,
  type FieldMap,
  type LatentPolicy,
  loadConfig,
  parseMap,
  RowError,
  type RunConfig,
  type Subject,
} from "@rot/rot";
import { type Bundle, openBundle, subjectOf } from "@rot/rot/node";
import { type Device, UsageError } from "@rot/tensor";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Output } from "./program.ts";

/** Parses a whole number that is not smaller than `least`. */
export const whole =
  (least: number) =>
  (value: string): number => {
    if (!/^\d+$/.test(value) || !Number.isSafeInteger(Number(value)) || Number(value) < least) {
      throw new InvalidArgumentError(`It is a whole number from ${least} up.`);
    }
    return Number(value);
  };

/** Parses a number from 0 to `most`. */
export const decimal =
  (most: number) =>
  (value: string): number => {
    if (!/^\d*\.?\d+(?:e-?\d+)?$/i.test(value) || Number(value) > most) {
      throw new InvalidArgumentError(
        most === Infinity ? "It is a number from 0 up." : `It is a number from 0 to ${most}.`,
      );
    }
    return Number(value);
  };

/** Parses `question=FIELD,cot=FIELD,answer=FIELD`. */
export function fieldMap(value: string): FieldMap {
  try {
    return parseMap(value);
  } catch (error) {
    if (error instanceof RowError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

/** The flag that chooses the GPU. */
export const adapterFlag = [
  "--adapter <name>",
  "part of a GPU adapter's name, or hardware, software, embedded (also ROT_ADAPTER)",
] as const;

/**
 * Reads a configuration file that a user named.
 *
 * @param flag  what stands before its name in messages
 * @throws {UsageError} when it cannot be read
 */
export async function readConfigFile(name: string, flag = "--config "): Promise<ConfigFile> {
  try {
    return { name, text: await readFile(name, "utf8") };
  } catch (error) {
    throw new UsageError(`${flag}${name}: ${(error as Error).message}`, { cause: error });
  }
}

/** A path as a shell takes it, for commands that are shown to be copied. */
export const quoted = (path: string): string => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);

/** Which model answers, and how it thinks. */
export interface SubjectFlags {
  readonly config?: string;
  readonly checkpoint?: string;
  readonly stage1_checkpoint?: string;
  readonly model?: string;
  readonly dtype?: FloatDType;
  readonly which: "best" | "latest";
  readonly num_vision_tokens?: number;
  readonly dynamic?: boolean;
  readonly stop_threshold?: number;
}

/** Adds the flags of {@link SubjectFlags}. Those with underscores are of the published script. */
export const subjectOptions = (command: Command): Command =>
  command
    .option("--checkpoint <path>", "a checkpoint or run folder of rot-cli train; without it --model answers in text")
    .option(
      "--model <folder>",
      "the base model, if it is not where it was; without --checkpoint the model that answers. tiny is the embedded one",
    )
    .addOption(
      new Option("--dtype <name>", "keep the weights in it; by default as they are stored").choices([
        "f32",
        "f16",
        "bf16",
      ]),
    )
    .option("--stage1_checkpoint <path>", "take the projection head and the markers from here")
    .addOption(new Option("--which <name>", "of a run's checkpoints").choices(["best", "latest"]).default("best"))
    .option("--config <file>", "of a training run, ours or published: names the model, stage 1 and the data folder")
    .option(
      "--num_vision_tokens <count>",
      "latents before the answer; with --dynamic at most. The checkpoint's own otherwise",
      whole(0),
    )
    .option("--dynamic", "end the latents when <img_end> is the likeliest token")
    .option(
      "--stop_threshold <distance>",
      "with --dynamic: also at a latent this near (RMS) to the embedding of <img_end>",
      decimal(Infinity),
    )
    .addOption(new Option("--model_type <name>", "accepted, without effect: both are one here").choices(["v1", "v2"]));

/** Says what of the flags has no effect. */
export function warnOfIdleFlags({ stop_threshold, dynamic }: SubjectFlags, output: Output): void {
  if (stop_threshold === undefined || dynamic) return;
  output.err("--stop_threshold has an effect with --dynamic only: a fixed number of latents ends by itself\n");
}

/**
 * The path of what is opened.
 *
 * @throws {UsageError} when there is none
 */
export function pathOf({ checkpoint, model }: SubjectFlags): string {
  const path = checkpoint ?? model;
  if (path !== undefined) return path;
  throw new UsageError("give --checkpoint PATH, a run of rot-cli train, or --model DIR, a model that answers in text");
}

/** The file of `--config`. */
export async function readConfig({ config: file }: SubjectFlags, output: Output): Promise<RunConfig | null> {
  if (file === undefined) return null;
  const { config } = loadConfig(await readConfigFile(file));
  output.err(`${file}: of it only the model, stage1_checkpoint and the folder of the data are used here\n`);
  return config;
}

/** Opens what answers. */
export async function openSubject(
  flags: SubjectFlags,
  config: RunConfig | null,
  device: Device,
  output: Output,
): Promise<{ readonly bundle: Bundle; readonly subject: Subject }> {
  const published = config && config.model !== "tiny" ? config.model : undefined;
  const bundle = await openBundle(pathOf(flags), device, {
    base: flags.checkpoint === undefined ? undefined : (flags.model ?? published),
    stage1: flags.stage1_checkpoint ?? config?.stage1_checkpoint ?? undefined,
    checkpoint: flags.which,
    dtype: flags.dtype,
    warn: (message) => output.err(`${message}\n`),
  });
  return { bundle, subject: subjectOf(bundle, policyOf(flags, bundle)) };
}

/** How many latents, if the command line says so. */
function policyOf(flags: SubjectFlags, { config, path }: Bundle): LatentPolicy | undefined {
  const { num_vision_tokens: count, dynamic, stop_threshold: threshold } = flags;
  if (!config.latents) {
    if (dynamic || count !== undefined) throw new UsageError(`${path} answers in text: it has no latents to count`);
    return undefined;
  }
  if (!dynamic) return count === undefined ? undefined : { budget: count };
  const own = "budget" in config.latents ? 2 * config.latents.budget : config.latents.max;
  return { max: count ?? own, ...(threshold !== undefined && { threshold }) };
}
