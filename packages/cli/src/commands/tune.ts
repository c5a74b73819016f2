/** `rot-cli tune`: finds the fastest setting of each kernel on this adapter, and stores it for every later run. */
import {
  choicesOf,
  collectCalls,
  type Measured,
  printSetting,
  problems as everyProblem,
  type Problem,
  tuneCalls,
} from "@rot/kernels/tuner";
import { type Device, openDevice, scope, UsageError } from "@rot/tensor";
import { saveTunings } from "@rot/tensor/kernel";
import { Command } from "commander";
import { ExitError } from "../exit-codes.ts";
import { progress } from "../progress.ts";
import type { Output } from "../program.ts";
import { stopSignal } from "../stop-signal.ts";

interface Flags {
  readonly adapter?: string;
  readonly rounds: string;
  readonly resume?: boolean;
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
    .option("--resume", "only what nothing is stored about: go on after Ctrl-C")
    .option("--dry-run", "measure, but store nothing")
    .option("--json", "print one JSON object")
    .addHelpText("after", help)
    .action(async (kernel: string | undefined, flags: Flags) => {
      const rounds = Number(flags.rounds);
      if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 1000) {
        throw new UsageError(`--rounds is "${flags.rounds}"; it must be a whole number from 1 to 1000`);
      }
      // Against what runs without tuning: not against what an earlier tuning chose.
      const device = await openDevice({ adapter: flags.adapter, tune: flags.resume ? "cached" : "off" });
      const stop = stopSignal((text) => output.err(`${text}\n`));
      try {
        const own = concerning(problems, kernel ?? "");
        const job = { kernel: kernel ?? "", rounds, problems: own, store: !flags.dryRun, signal: stop.signal };
        const { known, ...report } = await measureAll(device, output, job);
        if (report.measured.length === 0 && stop.code === null && !flags.resume) {
          throw new UsageError(
            `no kernel whose name begins with "${kernel ?? ""}" has settings to choose from; there are: ${known.join(", ")}`,
          );
        }
        // Only whoever has run every problem knows which entries of a kernel are of an older text.
        if (report.file !== null && own === problems && !flags.resume && stop.code === null) {
          await saveTunings(device, choicesOf(report.measured), new Set(report.measured.map((one) => one.kernel)));
        }
        output.out(flags.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
        if (stop.code !== null) {
          throw new ExitError(flags.dryRun ? "stopped" : "stopped; go on with: rot-cli tune --resume", stop.code);
        }
      } finally {
        stop.dispose();
        device.destroy();
      }
    });
}

/** The problems of the op that a kernel belongs to; all of them if it belongs to none, as `mul` does. */
function concerning(problems: readonly Problem[], kernel: string): readonly Problem[] {
  const op = kernel.split(".")[0] as string;
  const own = problems.filter(({ name }) => name.startsWith(op));
  return op === "" || own.length === 0 ? problems : own;
}

const help = `
On a CPU it takes minutes, on a GPU less. Each choice is stored as soon as it is made; Ctrl-C ends after the call that is
being timed, with 85, a second one at once.
ROT_TUNE=off runs without what is stored.

Examples:
  rot-cli tune
  rot-cli tune rmsNorm --adapter software --dry-run
  rot-cli tune --rounds 15 --json
`;

interface Job {
  /** How the names of the kernels begin. */
  readonly kernel: string;
  readonly rounds: number;
  readonly problems: readonly Problem[];
  readonly store: boolean;
  readonly signal: AbortSignal;
}

async function measureAll(
  device: Device,
  output: Output,
  { kernel: prefix, rounds, problems, store, signal }: Job,
): Promise<Report & { readonly known: readonly string[] }> {
  const bar = progress(output, { label: "tune", unit: "parts" });
  const partsOf = (some: readonly Problem[]): number => some.reduce((sum, { parts = 1 }) => sum + parts, 0);
  const total = partsOf(problems);
  const known = new Set<string>();
  const collector = collectCalls(device, (kernel) => known.add(kernel) && kernel.startsWith(prefix));
  const measured: Measured[] = [];
  let file: string | null = null;
  try {
    for (const [i, problem] of problems.entries()) {
      if (signal.aborted) break;
      const done = partsOf(problems.slice(0, i));
      scope(() => problem.run(device));
      await device.sync();
      const found = await tuneCalls(device, collector.take(), {
        rounds,
        signal,
        onCall: ({ kernel }) => bar.update({ done, total, note: kernel }),
        async onMeasured({ choice }) {
          if (choice && store) file = await saveTunings(device, [choice]);
        },
      });
      measured.push(...found);
      bar.update({ done: done + partsOf([problem]), total });
    }
  } finally {
    collector.stop();
    bar.finish();
  }
  const skipped = [...collector.skipped];
  return { adapter: device.name, file, measured, skipped, known: [...known].toSorted() };
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
    `${adapter}: ${measured.length} ${measured.length === 1 ? "call" : "calls"}, ${faster} faster at another setting than the usual one`,
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
