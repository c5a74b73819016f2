/** A run of benchmarks as a table, as Markdown and as JSON. */
import type { Peaks } from "./probes.ts";

/** One candidate's result. */
export interface Line {
  readonly benchmark: string;
  readonly candidate: string;
  /** The median over the rounds. */
  readonly milliseconds: number;
  readonly gigaflops: number | null;
  readonly gigabytes: number | null;
  /** The part of the device's measured peak that it reaches, in operations or bytes, whichever is nearer. */
  readonly partOfPeak: number | null;
  /** How many times faster than the first candidate of the benchmark. */
  readonly ratio: number;
}

/** Where and when a report was made. */
export interface Circumstances {
  readonly adapter: string;
  readonly kind: string;
  readonly commit: string;
  readonly date: string;
  /** The machine's load average of the last minute, before and after. */
  readonly load: readonly [number, number];
  readonly rounds: number;
  readonly peaks: Peaks;
  readonly dispatch: Dispatch;
}

/** What a dispatch costs. */
export interface Dispatch {
  /** Microseconds of JavaScript to record one. */
  readonly microseconds: number;
  /** Milliseconds for 1,000 dependent tiny ones, recorded and run. */
  readonly thousand: number;
}

const columns = ["", "ms", "GFLOP/s", "GB/s", "of peak", "ratio"];

function cells(line: Line): string[] {
  const fixed = (value: number | null, digits: number): string => value?.toFixed(digits) ?? "";
  return [
    line.candidate,
    line.milliseconds.toFixed(3),
    fixed(line.gigaflops, 1),
    fixed(line.gigabytes, 2),
    line.partOfPeak === null ? "" : `${(100 * line.partOfPeak).toFixed(0)} %`,
    `×${line.ratio.toFixed(2)}`,
  ];
}

function heading({ adapter, kind, commit, date, load, rounds, peaks, dispatch }: Circumstances): string[] {
  return [
    `${adapter}, ${kind}; commit ${commit}, ${date}; median of ${rounds} interleaved rounds, load ${load.map((l) => l.toFixed(1)).join(" to ")}`,
    `measured peak: ${peaks.gigaflops.toFixed(1)} GFLOP/s, ${peaks.gigabytes.toFixed(1)} GB/s`,
    `dispatch: ${dispatch.microseconds.toFixed(1)} µs of JavaScript, ${dispatch.thousand.toFixed(1)} ms for 1,000 tiny ones`,
  ];
}

function grouped(lines: readonly Line[]): Map<string, Line[]> {
  const groups = new Map<string, Line[]>();
  for (const line of lines) groups.set(line.benchmark, [...(groups.get(line.benchmark) ?? []), line]);
  return groups;
}

/** For a terminal. */
export function table(circumstances: Circumstances, lines: readonly Line[]): string {
  const out = [...heading(circumstances)];
  for (const [name, own] of grouped(lines)) {
    out.push("", name);
    const rows = [columns, ...own.map(cells)];
    const widths = columns.map((_, i) => Math.max(...rows.map((row) => (row[i] as string).length)));
    for (const row of rows) {
      out.push(
        `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join("  ")}`,
      );
    }
  }
  return out.join("\n");
}

/** For `benchmarks/results`. */
export function markdown(circumstances: Circumstances, lines: readonly Line[]): string {
  const out = [
    `# Benchmarks, ${circumstances.date.slice(0, 10)}`,
    "",
    ...heading(circumstances).map((line) => `- ${line}`),
  ];
  for (const [name, own] of grouped(lines)) {
    out.push("", `## ${name}`, "", `| ${columns.join(" | ")} |`, `|${"---|".repeat(columns.length)}`);
    for (const line of own) out.push(`| ${cells(line).join(" | ")} |`);
  }
  return `${out.join("\n")}\n`;
}
