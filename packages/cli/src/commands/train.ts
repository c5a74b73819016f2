/** `rot-cli train`: the main job. */
import { Command } from "commander";
import { examine } from "../doctor/examine.ts";
import { ExitError, exitCodes } from "../exit-codes.ts";
import type { Output } from "../program.ts";

/** What training still lacks, in the order in which it is built. */
const missing = ["the tuned matmul and attention", "Qwen3-VL", "the renderer and the data", "the two-stage trainer"];

/** The command. Until the trainer is there it does what the trainer will do first, checks the machine, and says what is missing. */
export function train(output: Output): Command {
  return new Command("train")
    .description("train a model to reason in image space (not built yet: checks the machine and says what is missing)")
    .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .addHelpText("after", "\nExamples:\n  rot-cli train\n  rot-cli train --adapter software\n")
    .action(async ({ adapter }: { adapter?: string }) => {
      const report = await examine(adapter);
      if (!report.healthy) throw new ExitError(report.advice.join("\n"), exitCodes.noDevice);
      output.out(`This machine is ready: ${report.adapter?.name}, ${report.selfTest?.gigaflops.toFixed(1)} GFLOP/s.\n`);
      output.out(`Nothing was trained: ${missing.join(", ")} are not built yet.\n`);
    });
}
