/** `rot-cli convert import`: a checkpoint of the published trainer as a run folder. */
import { importCheckpoint } from "@rot/rot/node";
import { Command, InvalidArgumentError } from "commander";
import { readConfigFile } from "../flags.ts";
import { withProgress } from "../progress.ts";
import type { Output } from "../program.ts";
import { version } from "../version.ts";

interface Flags {
  readonly stage1?: string;
  readonly stage2?: string;
  readonly base: string;
  readonly output: string;
  readonly config?: string;
  readonly dataset?: string;
  readonly fresh_moments?: boolean;
  readonly weights_only?: boolean;
  readonly latents?: number;
  readonly lora_alpha?: number;
  readonly json?: boolean;
}

/** The subcommand. */
export function importCommand(output: Output): Command {
  return new Command("import")
    .description("a checkpoint of the published code as a run that evaluate, generate and train open")
    .option("--stage1 <folder>", "its stage-1 folder, with projection_head.bin and special_tokens.bin")
    .option("--stage2 <path>", "its stage-2 folder, with latest and global_step…; or a safetensors conversion of it")
    .requiredOption("--base <folder>", "the model that was trained")
    .requiredOption("--output <folder>", "the run folder to make")
    .option("--config <file>", "settings to train on with: a published YAML, or one of ours")
    .option("--dataset <file>", "rows to train on with, in place of those of --config")
    .option("--fresh_moments", "begin AdamW's moments anew, though the optimizer's files are there")
    .option("--weights_only", "leave out what training needs: a third of the size for a model trained in full, or less")
    .option("--latents <n>", "latents a question gets; the checkpoint does not say (default: 32)", count)
    .option("--lora_alpha <n>", "numerator of LoRA's scaling; that of --config, or 32, if not said", positive)
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      "\nFrozen weights must be those of --base; missing and unexpected keys are errors that list them.\n" +
        "The optimizer is imported from optimizer.bin of stage 1, or from the zero_pp_rank_…_optim_states.pt of ZeRO stages 1\n" +
        "and 2, all ranks together; without them AdamW's moments begin anew, and it is said. The order of rows is this\n" +
        "project's own, and newlines in chains are drawn as spaces.\n" +
        "\nExamples:\n  rot-cli convert import --stage1 outputs/stage1 --stage2 outputs/stage2 --base Qwen3-VL-4B-Instruct --output runs/rot-4b\n" +
        "  rot-cli convert import --stage1 outputs/stage1/checkpoint_step_50 --base Qwen3-VL-4B-Instruct --config stage1.yaml --dataset gsm8k/train.jsonl --output runs/stage1\n" +
        "  rot-cli train --output runs/stage1 --resume\n" +
        "  rot-cli train --stage 2 --stage1_checkpoint runs/stage1 --model Qwen3-VL-4B-Instruct --dataset gsm8k/train.jsonl\n",
    )
    .action(async (flags: Flags) => {
      const config = flags.config === undefined ? undefined : await readConfigFile(flags.config);
      const { stages, markers, head, lora, training } = await withProgress(
        output,
        { label: "convert", unit: "bytes" },
        (onProgress) =>
          importCheckpoint({
            stage1: flags.stage1,
            stage2: flags.stage2,
            base: flags.base,
            output: flags.output,
            config,
            dataset: flags.dataset,
            freshMoments: flags.fresh_moments,
            weightsOnly: flags.weights_only,
            latents: flags.latents,
            loraAlpha: flags.lora_alpha,
            manifest: { version },
            note: (text) => output.err(`${text}\n`),
            onProgress,
          }),
      );
      const latents = flags.latents ?? 32;
      if (flags.json) {
        const plain = { output: flags.output, stages, markers, head, latents, lora, training };
        output.out(`${JSON.stringify(plain, null, 2)}\n`);
        return;
      }
      for (const { mode, step, checkpoint } of stages) output.out(`${mode} at step ${step}\n  ${checkpoint}\n`);
      const adapters = lora === null ? "" : `; LoRA of rank ${lora.r}, alpha ${lora.alpha}`;
      output.out(
        `head ${head.width} → ${head.hidden}; markers ${markers.begin} and ${markers.end}; ${latents} latents${adapters}\n`,
      );
      if (training) {
        const data = training.data ? "" : " --dataset FILE";
        output.out(`train on: rot-cli train --output ${flags.output} --resume${data}\n`);
      }
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
