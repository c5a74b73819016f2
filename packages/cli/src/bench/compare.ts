/** Whether a run is slower than an earlier one by more than chance. */
import { UsageError } from "@rot/tensor";
import type { Line, Report } from "./report.ts";

/** What became of one line. */
export interface Change {
  readonly benchmark: string;
  readonly candidate: string;
  /** The medians, in milliseconds. */
  readonly before: number;
  readonly after: number;
  readonly verdict: "slower" | "faster" | "same";
}

/** What a comparison found. */
export interface Comparison {
  readonly changes: readonly Change[];
  /** Lines of the earlier run that this one lacks. */
  readonly unmeasured: readonly string[];
  /** How much slower the machine itself was this time: 1 or more. */
  readonly drift: number;
}

/** A change below it is never told from chance. */
const FLOOR = 1.1;

/**
 * Compares our lines of two runs on one adapter.
 *
 * A line is slower when its fastest quarter of rounds begins later than the slowest quarter of the earlier run did, and
 * more than a tenth later, after the machine's own drift is taken off: how much the probes, which no change of ours
 * touches, have slowed down.
 *
 * @throws {UsageError} when the adapters differ, or no line is in both
 */
export function compare(before: Report, after: Report): Comparison {
  if (before.adapter !== after.adapter) {
    throw new UsageError(
      `the earlier report is of ${before.adapter}, this run of ${after.adapter}; they do not compare`,
    );
  }
  const drift = Math.max(
    1,
    before.peaks.gigaflops / after.peaks.gigaflops,
    before.peaks.gigabytes / after.peaks.gigabytes,
  );
  const keyOf = ({ benchmark, candidate }: Line): string => `${benchmark}, ${candidate}`;
  const now = new Map(after.lines.map((line) => [keyOf(line), line]));
  const ours = before.lines.filter(({ by }) => by === "ours");
  const changes = ours.flatMap((line): Change[] => {
    const next = now.get(keyOf(line));
    if (!next) return [];
    const { benchmark, candidate, milliseconds } = line;
    const slower = next.quartiles[0] > line.quartiles[1] * drift * FLOOR;
    const faster = next.quartiles[1] * FLOOR < line.quartiles[0];
    const verdict = slower ? "slower" : faster ? "faster" : "same";
    return [{ benchmark, candidate, before: milliseconds, after: next.milliseconds, verdict }];
  });
  if (changes.length === 0) throw new UsageError("the earlier report and this run have no line in common");
  return { changes, unmeasured: ours.map(keyOf).filter((key) => !now.has(key)), drift };
}

/** For a terminal. */
export function comparisonText({ changes, unmeasured, drift }: Comparison): string {
  const told = changes.filter(({ verdict }) => verdict !== "same");
  const line = ({ benchmark, candidate, before, after, verdict }: Change): string =>
    `  ${verdict}  ${benchmark}, ${candidate}: ${before.toFixed(3)} ms, now ${after.toFixed(3)} ms (×${(before / after).toFixed(2)})`;
  return [
    `compared with the earlier report: ${told.length} of ${changes.length} lines changed by more than chance${drift > 1 ? `; the machine's probes are ${((drift - 1) * 100).toFixed(0)} % slower this time, which is allowed for` : ""}`,
    ...told.map(line),
    ...unmeasured.map((key) => `  not measured now  ${key}`),
  ].join("\n");
}
