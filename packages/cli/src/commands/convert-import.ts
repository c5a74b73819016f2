/** `rot-cli convert import`: a checkpoint of the published trainer as a run folder. */
import { importCheckpoint, type OnProgress } from "@rot/rot/node";
import { Command, InvalidArgumentError } from "commander";
import type { Output } from "../program.ts";
import { version } from "../version.ts";

interface Flags {
  readonly stage1?: string;
  readonly stage2?: string;
  readonly base: string;
  readonly output: string;
  readonly latents: number;
  readonly lora_alpha: number;
  readonly json?: boolean;
}

/** How work is run with its progress shown. */
export type Reported = <T>(output: Output, work: (onProgress: OnProgress) => Promise<T>) => Promise<T>;

/** The subcommand. */
export function importCommand(output: Output, reported: Reported): Command {
  return new Command("import")
    .description("a checkpoint of the published code as a run that evaluate, generate and train open")
    .option("--stage1 <folder>", "its stage-1 folder, with projection_head.bin and special_tokens.bin")
    .option("--stage2 <path>", "its stage-2 folder, with latest and global_step…; or a safetensors conversion of it")
    .requiredOption("--base <folder>", "the model that was trained")
    .requiredOption("--output <folder>", "the run folder to make")
    .option("--latents <n>", "latents a question gets; the checkpoint does not say", count, 32)
    .option("--lora_alpha <n>", "numerator of LoRA's scaling; the checkpoint does not say", positive, 32)
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      "\nFrozen weights must be those of --base; missing and unexpected keys are errors that list them.\n" +
        "Weights and the state of the tokens are imported, the state of the optimizer is not.\n" +
        "\nExamples:\n  rot-cli convert import --stage1 outputs/stage1 --stage2 outputs/stage2 --base Qwen3-VL-4B-Instruct --output runs/rot-4b\n" +
        "  rot-cli convert import --stage1 outputs/stage1 --base Qwen3-VL-4B-Instruct --output runs/stage1\n" +
        "  rot-cli train --stage 2 --stage1_checkpoint runs/stage1 --model Qwen3-VL-4B-Instruct --dataset gsm8k/train.jsonl\n",
    )
    .action(async (flags: Flags) => {
      const { stages, markers, head, rank } = await reported(output, (onProgress) =>
        importCheckpoint({
          stage1: flags.stage1,
          stage2: flags.stage2,
          base: flags.base,
          output: flags.output,
          latents: flags.latents,
          loraAlpha: flags.lora_alpha,
          manifest: { version },
          note: (text) => output.err(`${text}\n`),
          onProgress,
        }),
      );
      if (flags.json) {
        output.out(`${JSON.stringify({ output: flags.output, stages, markers, head, rank }, null, 2)}\n`);
        return;
      }
      for (const { mode, step, checkpoint } of stages) output.out(`${mode} at step ${step}\n  ${checkpoint}\n`);
      const lora = rank === null ? "" : `; LoRA of rank ${rank}, alpha ${flags.lora_alpha}`;
      output.out(
        `head ${head.width} → ${head.hidden}; markers ${markers.begin} and ${markers.end}; ${flags.latents} latents${lora}\n`,
      );
    });
}

function count(text: string): number {
  const value = Number(text);
  if (/^\d{1,7}$/.test(text)) return value;
  throw new InvalidArgumentError("a whole number is wanted");
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError("a number above 0 is wanted");
}
