/** Runs benchmarks, ours and the peers' in the same rounds. */
import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Device } from "@rot/tensor";
import type { Benchmark, Candidate } from "./benchmark.ts";
import { agree } from "./noise.ts";
import type { Peer } from "./peers.ts";
import type { Peaks } from "./probes.ts";
import type { Line, Report } from "./report.ts";
import { type Contestant, interleave, median, onDevice, type Patience, quantile } from "./timing.ts";

/** A contestant and what a line says of it. */
interface Entry extends Contestant {
  readonly line: Pick<Line, "candidate" | "by" | "comparable" | "target">;
  readonly flops: number | undefined;
  readonly bytes: number | undefined;
  readonly reference: string | undefined;
}

type Failure = Report["failures"][number];

/** The lines of one benchmark, and what failed in it. A fault of our own device is thrown. */
export async function measure(
  device: Device,
  benchmark: Benchmark,
  peers: readonly Peer[],
  peaks: Peaks,
  patience: Patience,
): Promise<{ lines: Line[]; failures: Failure[] }> {
  const failures: Failure[] = [];
  const candidates = await benchmark.prepare(device);
  const entries = candidates.map((candidate) => ownEntry(device, benchmark, candidate, candidates));
  const checked = candidates.find(({ check }) => check);
  if (benchmark.work && checked?.check && peers.length > 0) {
    const want = await checked.check();
    for (const peer of peers) {
      try {
        const got = await peer.prepare(benchmark.work);
        if (got) entries.push(peerEntry(peer, benchmark, agree(got, want)));
      } catch (error) {
        failures.push({ name: `${peer.name}, ${benchmark.name}`, why: (error as Error).message });
      }
    }
  }
  const results = await interleave(entries, patience);
  const times = new Map<string, number>();
  const lines: Line[] = [];
  for (const [entry, own] of results) {
    const { candidate, by } = entry.line;
    if (own instanceof Error) {
      if (by === "ours" || by === "reference") throw own;
      failures.push({ name: `${candidate}, ${benchmark.name}`, why: own.message });
      continue;
    }
    const milliseconds = median(own);
    times.set(candidate, milliseconds);
    const rate = (count: number | undefined): number | null => (count ? count / milliseconds / 1e6 : null);
    const [gigaflops, gigabytes] = [rate(entry.flops), rate(entry.bytes)];
    const part = Math.max((gigaflops ?? 0) / peaks.gigaflops, (gigabytes ?? 0) / peaks.gigabytes);
    const against = entry.reference === undefined ? undefined : times.get(entry.reference);
    lines.push({
      ...entry.line,
      benchmark: benchmark.name,
      milliseconds,
      quartiles: [quantile(own, 0.25), quantile(own, 0.75)],
      rounds: own.length,
      gigaflops,
      gigabytes,
      tokensPerSecond: benchmark.tokens ? (1000 * benchmark.tokens) / milliseconds : null,
      partOfPeak: part > 0 && (by === "ours" || by === "reference") ? part : null,
      ratio: against === undefined ? null : against / milliseconds,
    });
  }
  return { lines, failures };
}

function ownEntry(device: Device, benchmark: Benchmark, candidate: Candidate, all: readonly Candidate[]): Entry {
  const { name, flops = benchmark.flops, bytes = benchmark.bytes, reference, check } = candidate;
  const by = all.some((other) => other.reference === name) && reference === undefined && !check ? "reference" : "ours";
  return {
    ...onDevice(device, candidate),
    line: { candidate: name, by, comparable: !!check, target: check ? (benchmark.target ?? 1) : null },
    flops,
    bytes,
    reference,
  };
}

const peerEntry = (peer: Peer, { flops, bytes }: Benchmark, comparable: boolean): Entry => ({
  time: (repeats) => peer.time(repeats),
  line: { candidate: peer.name, by: peer.kind, comparable, target: null },
  flops,
  bytes,
  reference: undefined,
});

/** Frees what an earlier benchmark left to the garbage collector, which does not see how much memory hangs on it. */
export async function collectGarbage(device: Device): Promise<void> {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  await setTimeout(0); // finalizers run as a task of their own
  device.trim();
}
