/** `rot-cli convert export`: a checkpoint of a run in other people's formats. */
import { type Device, openDevice } from "@rot/tensor";
import { exportCheckpoint, type ExportFormat, exportFormats } from "@rot/rot/node";
import { Command, Option } from "commander";
import { withProgress } from "../progress.ts";
import type { Output } from "../program.ts";

interface Flags {
  readonly input: string;
  readonly to: ExportFormat;
  readonly output: string;
  readonly base?: string;
  readonly checkpoint: "best" | "latest";
  readonly max_shard_size: string;
  readonly adapter?: string;
  readonly json?: boolean;
}

/** The subcommand. */
export function exportCommand(output: Output): Command {
  return new Command("export")
    .description("a checkpoint as the published code, PEFT or transformers has it, with a model card")
    .requiredOption("--input <path>", "a checkpoint, or a run folder")
    .addOption(new Option("--to <format>", "whose format").choices(exportFormats).makeOptionMandatory())
    .requiredOption("--output <folder>", "the folder to make")
    .option("--base <folder>", "the base model, if it is no more where it was when it was trained")
    .addOption(
      new Option("--checkpoint <which>", "of a run: the best by validation, or the latest")
        .choices(["best", "latest"])
        .default("best"),
    )
    .option("--max_shard_size <size>", "huggingface: the most bytes of tensors in one file", "5GB")
    .option(
      "--adapter <name>",
      "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER); huggingface merges on it",
    )
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      "\nreference: projection_head.bin, special_tokens.bin and global_step…/mp_rank_00_model_states.pt\n" +
        "peft: adapter_config.json and adapter_model.safetensors\n" +
        "huggingface: the whole model, LoRA merged, the markers among its tokens\n" +
        "\nExamples:\n  rot-cli convert export --input runs/gsm8k --to huggingface --output RoT-4B\n" +
        "  rot-cli convert export --input runs/gsm8k --to peft --output RoT-4B-lora\n",
    )
    .action(async (flags: Flags) => {
      let device: Device | undefined;
      try {
        const { checkpoint, step, files, bytes } = await withProgress(
          output,
          { label: "convert", unit: "bytes" },
          (onProgress) =>
            exportCheckpoint({
              input: flags.input,
              to: flags.to,
              output: flags.output,
              base: flags.base,
              checkpoint: flags.checkpoint,
              maxShardSize: flags.max_shard_size,
              device: async () => (device = await openDevice({ adapter: flags.adapter })),
              note: (text) => output.err(`${text}\n`),
              onProgress,
            }),
        );
        if (flags.json) {
          output.out(`${JSON.stringify({ checkpoint, step, output: flags.output, files, bytes }, null, 2)}\n`);
          return;
        }
        output.out(`${checkpoint}, step ${step}: ${bytes.toLocaleString("en")} bytes of tensors\n`);
        for (const file of files) output.out(`${file}\n`);
      } finally {
        device?.destroy();
      }
    });
}
