/** `rot-cli bench`: times ops on this machine's adapter, beside their references and other engines. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { UsageError } from "@rot/tensor";
import { Command } from "commander";
import { compare, comparisonText } from "../bench/compare.ts";
import type { Peers } from "../bench/peers.ts";
import { readReport, type Report } from "../bench/report.ts";
import { roofline } from "../bench/roofline.ts";
import { run } from "../bench/run.ts";
import { markdown, table } from "../bench/text.ts";
import { ExitError, exitCodes } from "../exit-codes.ts";
import type { Output } from "../program.ts";
import { stopSignal } from "../stop-signal.ts";
import { version } from "../version.ts";

interface Options {
  readonly adapter?: string;
  readonly rounds: string;
  readonly knobs?: boolean;
  readonly json?: boolean;
  readonly save?: boolean;
  readonly peers?: string | true;
  readonly compare?: string;
}

/** What a checkout has and the published package has not. */
export interface Checkout {
  /** How the command is called there. */
  readonly command: string;
  readonly peers: Peers;
  /** Where `--save` writes. */
  readonly results: string;
}

/** The command. It exits with 1 when `--compare` finds a line slower by more than chance. */
export function bench(output: Output, checkout?: Checkout): Command {
  const called = checkout?.command ?? "rot-cli bench";
  return new Command("bench")
    .description("time ops, training steps and decoding on this machine's adapter, beside their references")
    .argument("[names...]", "only benchmarks that have one of these in their name; brings the small cases of an op too")
    .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .option("--rounds <n>", "interleaved rounds, of which the median counts; at least 3", "7")
    .option("--knobs", "time every setting of every kernel, not only the one that would be chosen")
    .option("--peers [names]", "beside other engines, all or a comma-separated list (in a checkout only)")
    .option("--json", "print one JSON object")
    .option(
      "--compare <file>",
      "compare with what --json printed earlier; exit with 1 if a line is slower by more than chance",
    )
    .option("--save", `write a dated report and its roofline into ${checkout ? "benchmarks/results" : "this folder"}`)
    .addHelpText(
      "after",
      `\nWhat rot-cli tune has stored is in use; ROT_TUNE=off goes without. Ctrl-C ends after the benchmark that runs, with 85.\n\nExamples:\n  ${called} rms-norm\n  ${called} matmul --json > before.json\n  ${called} matmul --compare before.json\n`,
    )
    .action((names: string[], options: Options) => measureAndTell(output, checkout, names, options));
}

async function measureAndTell(
  output: Output,
  checkout: Checkout | undefined,
  names: readonly string[],
  options: Options,
): Promise<void> {
  const rounds = Number(options.rounds);
  if (!Number.isInteger(rounds) || rounds < 3 || rounds > 1000) {
    throw new UsageError(`--rounds is a whole number from 3 to 1000, got ${options.rounds}`);
  }
  const peers = options.peers === undefined ? null : peersOf(checkout, options.peers);
  // Before the minutes of measuring, so that a wrong file does not cost them.
  const before = options.compare === undefined ? null : readReport(options.compare);
  const stop = stopSignal(() => output.err("stopping after this benchmark; once more stops at once\n"));
  const report = await run({
    names,
    adapter: options.adapter,
    rounds,
    knobs: options.knobs ?? false,
    peers,
    version,
    signal: stop.signal,
    progress: (text) => output.err(`${text}\n`),
  }).finally(() => stop.dispose());
  output.out(options.json ? `${JSON.stringify(report, null, 2)}\n` : `${table(report)}\n`);
  if (stop.code !== null) {
    const left = [options.save && "saved", before && "compared"].filter(Boolean).join(" or ");
    throw new ExitError(`stopped before the end${left && `; nothing was ${left}`}`, stop.code);
  }
  if (options.save) output.err(`saved ${save(report, checkout?.results ?? process.cwd())}\n`);
  if (!before) return;
  const comparison = compare(before, report);
  output.err(`${comparisonText(comparison)}\n`);
  const slower = comparison.changes.filter(({ verdict }) => verdict === "slower").length;
  if (slower > 0) {
    const lines = slower === 1 ? "1 line is" : `${slower} lines are`;
    throw new ExitError(`${lines} slower than in ${options.compare} by more than chance`, exitCodes.slower);
  }
}

function peersOf(checkout: Checkout | undefined, wanted: string | true): { from: Peers; names: readonly string[] } {
  if (!checkout) {
    throw new UsageError(
      "--peers works in a checkout only, as npm run bench -- --peers: their drivers are not published",
    );
  }
  const { peers } = checkout;
  const names = wanted === true ? peers.names : wanted.split(",").map((one) => one.trim());
  const unknown = names.find((one) => !peers.names.includes(one));
  if (unknown !== undefined)
    throw new UsageError(`--peers: there is no "${unknown}"; there are: ${peers.names.join(", ")}`);
  return { from: peers, names };
}

/** Writes the report and its picture, in place of those of the same day and adapter. */
function save(report: Report, folder: string): string {
  mkdirSync(folder, { recursive: true });
  const adapter = report.adapter
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 24)
    .replace(/-$/, "");
  const file = join(folder, `${report.date.slice(0, 10)}-${adapter}`);
  const write = (path: string, content: string): void => {
    writeFileSync(`${path}.partial`, content);
    renameSync(`${path}.partial`, path);
  };
  write(`${file}.svg`, roofline(report));
  write(`${file}.md`, markdown(report, basename(`${file}.svg`)));
  return `${file}.md`;
}
