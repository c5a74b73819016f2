/** All that `bench` does between its flags and its text. */
import { execFileSync } from "node:child_process";
import { loadavg } from "node:os";
import { openDevice, UsageError } from "@rot/tensor";
import type { Benchmark } from "./benchmark.ts";
import { collectGarbage, measure } from "./measure.ts";
import type { Peer, Peers } from "./peers.ts";
import { measureDispatch, measurePeaks } from "./probes.ts";
import type { Line, Report } from "./report.ts";
import { decoding } from "./suites/decoding.ts";
import { attentionBenchmarks, caseBenchmarks } from "./suites/kernels.ts";
import { dispatches, ops } from "./suites/ops.ts";
import { training } from "./suites/training.ts";

/** What to measure. */
export interface RunOptions {
  /** Only benchmarks whose name has one of them, hyphens, spaces and capitals aside; none means all. */
  readonly names: readonly string[];
  readonly adapter: string | undefined;
  readonly rounds: number;
  /** Whether to time every setting of every kernel. */
  readonly knobs: boolean;
  /** The engines to measure beside ours. */
  readonly peers: { readonly from: Peers; readonly names: readonly string[] } | null;
  readonly version: string;
  /** Ends it early: the report then has the benchmarks that were done. */
  readonly signal: AbortSignal;
  /** Told what is being done. */
  readonly progress: (text: string) => void;
}

/** Every benchmark, in the order of a report. */
const benchmarksOf = (knobs: boolean): readonly Benchmark[] => [
  ...ops,
  ...attentionBenchmarks(knobs),
  ...training,
  dispatches,
  ...decoding,
  ...caseBenchmarks(knobs),
];

/** The benchmarks that some names mean. @throws {UsageError} when one means none */
export function choose(names: readonly string[], knobs: boolean): readonly Benchmark[] {
  const all = benchmarksOf(knobs);
  if (names.length === 0) return all.filter(({ onlyByName }) => !onlyByName);
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[-\s]/g, "");
  const chosen = new Set<Benchmark>();
  for (const name of names) {
    const meant = all.filter((benchmark) => plain(benchmark.name).includes(plain(name)));
    for (const benchmark of meant) chosen.add(benchmark);
    if (meant.length > 0) continue;
    const known = [...new Set(all.map((benchmark) => benchmark.name.split(":")[0] as string))];
    throw new UsageError(`no benchmark has "${name}" in its name; there are: ${known.join(", ")}`);
  }
  return all.filter((benchmark) => chosen.has(benchmark));
}

/** Measures. */
export async function run({
  names,
  adapter,
  rounds,
  knobs,
  peers,
  version,
  progress,
  signal,
}: RunOptions): Promise<Report> {
  const chosen = choose(names, knobs);
  const device = await openDevice({ adapter });
  let running: readonly Peer[] = [];
  try {
    const before = loadavg()[0] as number;
    const failures: { name: string; why: string }[] = [];
    if (peers) {
      const started = await peers.from.start(peers.names);
      running = started.running;
      failures.push(...started.missing);
    }
    const peaks = await measurePeaks(device, rounds);
    const dispatchMicroseconds = await measureDispatch(device, rounds);
    const lines: Line[] = [];
    for (const [i, benchmark] of chosen.entries()) {
      if (signal.aborted) break;
      progress(`${i + 1} of ${chosen.length}: ${benchmark.name} …`);
      const measured = await measure(device, benchmark, running, peaks, { rounds });
      lines.push(...measured.lines);
      failures.push(...measured.failures);
      await collectGarbage(device);
    }
    return {
      adapter: device.name,
      kind: device.kind,
      commit: commitOf() ?? `version ${version}`,
      tunings: device.tunings.size,
      date: new Date().toISOString(),
      load: [before, loadavg()[0] as number],
      peaks,
      dispatchMicroseconds,
      peers: running.map((peer) => ({ name: peer.name, version: peer.version })),
      failures,
      lines,
    };
  } finally {
    for (const peer of running) peer.stop();
    device.destroy();
  }
}

/** The commit of the code that runs, where it is a checkout. */
function commitOf(): string | null {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], {
      cwd: import.meta.dirname,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return null; // an installed package
  }
}
