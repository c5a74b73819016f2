/** `rot-cli tune`: finds the fastest setting of each kernel on this adapter, and stores it for every later run. */
import {
  choicesOf,
  collectCalls,
  type Measured,
  measureCall,
  freeCall,
  printSetting,
  problems as everyProblem,
  type Problem,
} from "@rot/kernels/tuner";
import { type Device, openDevice, scope, UsageError } from "@rot/tensor";
import { saveTunings } from "@rot/tensor/kernel";
import { Command } from "commander";
import { progress } from "../progress.ts";
import type { Output } from "../program.ts";

interface Flags {
  readonly adapter?: string;
  readonly rounds: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** What a run found. */
interface Report {
  readonly adapter: string;
  /** The file that holds the choices; null where none was written. */
  readonly file: string | null;
  readonly measured: readonly Measured[];
  /** Kernels of which calls were too large to be measured. */
  readonly skipped: readonly string[];
}

/** The command. */
export function tune(output: Output, problems: readonly Problem[] = everyProblem): Command {
  return new Command("tune")
    .description("time the kernels at each of their settings, and store the fastest for this adapter")
    .argument("[kernel]", "only kernels whose names begin so: rmsNorm, rotary.forward")
    .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .option("--rounds <n>", "how often each setting has its turn", "7")
    .option("--dry-run", "measure, but store nothing")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nROT_TUNE=off runs without what is stored; ROT_DEBUG=3 shows each choice.\n" +
        "\nExamples:\n  rot-cli tune\n  rot-cli tune rmsNorm --adapter software --dry-run\n  rot-cli tune --rounds 15 --json\n",
    )
    .action(async (kernel: string | undefined, flags: Flags) => {
      const rounds = Number(flags.rounds);
      if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 1000) {
        throw new UsageError(`--rounds is "${flags.rounds}"; it must be a whole number from 1 to 1000`);
      }
      // Against what runs without tuning: not against what an earlier tuning chose.
      const device = await openDevice({ ...(flags.adapter !== undefined && { adapter: flags.adapter }), tune: "off" });
      try {
        const { measured, skipped } = await measureAll(device, output, problems, kernel ?? "", rounds);
        if (measured.length === 0) {
          throw new UsageError(`no kernel whose name begins with "${kernel ?? ""}" has settings to choose from`);
        }
        const forget = new Set(measured.map((one) => one.kernel));
        const file = flags.dryRun ? null : await saveTunings(device, choicesOf(measured), forget);
        const report: Report = { adapter: device.name, file, measured, skipped };
        output.out(flags.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
      } finally {
        device.destroy();
      }
    });
}

async function measureAll(
  device: Device,
  output: Output,
  problems: readonly Problem[],
  prefix: string,
  rounds: number,
): Promise<Omit<Report, "adapter" | "file">> {
  const report = progress(output, { label: "tune", unit: "problems" });
  const collector = collectCalls(device, (kernel) => kernel.startsWith(prefix));
  const measured: Measured[] = [];
  try {
    for (const [done, problem] of problems.entries()) {
      scope(() => problem.run(device));
      await device.sync();
      for (const call of collector.take()) {
        report.update({ done, total: problems.length, note: call.kernel });
        try {
          measured.push(await measureCall(device, call, { rounds }));
        } finally {
          freeCall(call);
        }
      }
      report.update({ done: done + 1, total: problems.length });
    }
  } finally {
    collector.stop();
    report.finish();
  }
  return { measured, skipped: [...collector.skipped] };
}

function reportText({ adapter, file, measured, skipped }: Report): string {
  const rows = measured.map(({ kernel, call, choice, candidates }) => [
    kernel,
    choice ? choice.ratio.toFixed(2) : "",
    candidates.find(({ setting }) => setting === choice?.setting)?.milliseconds?.toPrecision(3) ?? "",
    choice ? printSetting(choice.setting) : "no setting gave a result",
    call,
  ]);
  const heads = ["kernel", "ratio", "ms", "setting", "measured at"];
  const lengths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => (row[i] as string).length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(lengths[i] as number))
      .join("  ")
      .trimEnd();
  const out = measured.flatMap(({ kernel, call, candidates }) =>
    candidates.flatMap(({ setting, verdict, reason }) =>
      reason === undefined ? [] : [`${kernel} ${printSetting(setting)} ${verdict}: ${reason} (${call})`],
    ),
  );
  const faster = measured.filter(({ choice }) => choice && choice.ratio < 1).length;
  return [
    `${adapter}: ${measured.length} calls, ${faster} faster at another setting than the usual one`,
    "",
    line(heads),
    ...rows.map(line),
    ...(out.length > 0 ? ["", "Left out:", ...out] : []),
    ...(skipped.length > 0 ? ["", `Too large to be measured: some calls of ${skipped.join(", ")}`] : []),
    "",
    file === null ? "nothing was stored" : `stored in ${file}`,
    "",
  ].join("\n");
}
