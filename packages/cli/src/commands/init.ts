/** `rot-cli init`: a model's folder with random weights, for trying things out and for training from scratch. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describeModel, type FloatDType, presets } from "@rot/models";
import { writeRandomCheckpoint } from "@rot/models/node";
import { openDevice, UsageError } from "@rot/tensor";
import { Command, Option } from "commander";
import { adapterFlag, whole } from "../flags.ts";
import type { Output } from "../program.ts";

interface Flags {
  readonly preset: keyof typeof presets;
  readonly seed: number;
  readonly dtype: FloatDType;
  readonly tokenizer?: string;
  readonly adapter?: string;
}

/** The command. */
export function init(output: Output): Command {
  return new Command("init")
    .description("write a Qwen3-VL folder with random weights")
    .argument("<folder>", "where to; a new or empty one")
    .addOption(new Option("--preset <name>", "its dimensions").choices(Object.keys(presets)).default("tiny"))
    .option("--seed <n>", "of all weights", whole(0), 0)
    .addOption(new Option("--dtype <name>", "of all weights").choices(["f32", "bf16", "f16"]).default("bf16"))
    .option("--tokenizer <folder>", "a model's folder whose tokenizer, template and processor are copied")
    .option(...adapterFlag)
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli init models/tiny --tokenizer Qwen3-VL-2B-Instruct\n  rot-cli init models/2b --preset 2b --seed 1\n",
    )
    .action((folder: string, flags: Flags) => run(output, folder, flags));
}

async function run(output: Output, folder: string, { preset, seed, dtype, tokenizer, adapter }: Flags): Promise<void> {
  if (tokenizer !== undefined && !existsSync(join(tokenizer, "tokenizer.json"))) {
    throw new UsageError(`--tokenizer ${tokenizer}: there is no tokenizer.json in it`);
  }
  await checkEmpty(folder);
  const config = presets[preset];
  const { architecture } = describeModel(config, preset);
  using device = await openDevice({ adapter });
  const like = tokenizer !== undefined && { like: tokenizer };
  await writeRandomCheckpoint(folder, architecture, device, { config, seed, dtype, ...like });
  const count = [...architecture.parameters.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  output.out(`${folder}: ${preset}, ${count.toLocaleString("en")} random parameters in ${dtype}\n`);
  if (tokenizer === undefined) {
    output.err(
      "it has no tokenizer, chat template or image processor, which training needs: copy them with --tokenizer FOLDER\n",
    );
  }
}

/** @throws {UsageError} before a device is opened for nothing */
async function checkEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new UsageError(`${folder} cannot be a model's folder: ${error.message}`);
  });
  if (names.length > 0)
    throw new UsageError(`${folder} holds ${names.length} files already: name a new or an empty one`);
}
