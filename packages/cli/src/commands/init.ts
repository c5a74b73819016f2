/** `rot-cli init`: a model's folder with random weights, for trying things out and for training from scratch. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { describeModel, type FloatDType, presets } from "@rot/models";
import { writeRandomCheckpoint } from "@rot/models/node";
import { openDevice, UsageError } from "@rot/tensor";
import { Command, InvalidArgumentError, Option } from "commander";
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
    .option("--seed <n>", "of all weights", whole, 0)
    .addOption(new Option("--dtype <name>", "of all weights").choices(["f32", "bf16", "f16"]).default("bf16"))
    .option("--tokenizer <folder>", "a model's folder whose tokenizer, template and processor are copied")
    .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli init models/tiny --tokenizer Qwen3-VL-2B-Instruct\n  rot-cli init models/2b --preset 2b --seed 1\n",
    )
    .action((folder: string, flags: Flags) => run(output, folder, flags));
}

async function run(output: Output, folder: string, { preset, seed, dtype, tokenizer, adapter }: Flags): Promise<void> {
  if (tokenizer !== undefined && !(await isThere(join(tokenizer, "tokenizer.json")))) {
    throw new UsageError(`--tokenizer ${tokenizer}: there is no tokenizer.json in it`);
  }
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

function whole(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError("It is a whole number from 0 up.");
  return Number(text);
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
