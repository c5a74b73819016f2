/** `rot-cli doctor`: what this machine offers, whether it computes rightly, and what to do if it does not. */
import { Command } from "commander";
import { examine, type Report } from "../doctor/examine.ts";
import { reportText } from "../doctor/text.ts";
import { ExitError, exitCodes } from "../exit-codes.ts";
import { adapterFlag } from "../flags.ts";
import type { Output } from "../program.ts";

/** The command. It exits with 0 when a device computed the right result, and with 4 otherwise. */
export function doctor(output: Output): Command {
  return new Command("doctor")
    .description("check this machine: Node, adapter, features, limits, a one-second matmul, memory and disk")
    .option(...adapterFlag)
    .option("--json", "print the report as one JSON object")
    .addHelpText("after", "\nExamples:\n  rot-cli doctor\n  rot-cli doctor --adapter embedded --json\n")
    .action(async ({ adapter, json }: { adapter?: string; json?: boolean }) => {
      const report: Report = await examine(adapter);
      output.out(json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
      if (!report.healthy) throw new ExitError(report.advice.join("\n"), exitCodes.noDevice);
    });
}
