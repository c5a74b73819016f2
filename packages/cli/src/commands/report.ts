/** `rot-cli report`: the page of a training run. */
import { writeRunReport } from "@rot/rot/node";
import { Command } from "commander";
import type { Output } from "../program.ts";

/** The command. It prints the path of the page. */
export function report(output: Output): Command {
  return new Command("report")
    .description("write a run's page: its settings, curves and evaluations in one HTML file that loads nothing")
    .argument("<run>", "a run folder of rot-cli train, finished or not")
    .option("--output <file>", "report.html in the run folder by default")
    .addHelpText(
      "after",
      "\nTraining writes it at its end, and rot-cli evaluate again with what came out.\n\nExamples:\n" +
        "  rot-cli report runs/first\n  rot-cli report runs/first --output first.html\n",
    )
    .action(async (run: string, flags: { readonly output?: string }) => {
      output.out(`${await writeRunReport(run, flags.output)}\n`);
    });
}
