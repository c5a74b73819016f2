/** A report for a terminal and as Markdown. */
import type { PeerKind } from "./peers.ts";
import { grouped, type Line, type Report } from "./report.ts";

const columns = ["", "ms", "quartiles", "GFLOP/s", "GB/s", "tokens/s", "of peak", "to reference", "ours is"];

/** The line that peers are measured against. */
const oursOf = (lines: readonly Line[]): Line | undefined =>
  lines.find(({ by, comparable }) => by === "ours" && comparable);

const digits = (value: number): string => value.toFixed(value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0);

const isPeer = ({ by }: Line): boolean => by !== "ours" && by !== "reference";

function cells(line: Line, ours: Line | undefined): string[] {
  const fixed = (value: number | null, count: number): string => value?.toFixed(count) ?? "";
  const lead = ours && isPeer(line) ? `×${(line.milliseconds / ours.milliseconds).toFixed(2)}` : "";
  return [
    isPeer(line) && !line.comparable ? `${line.candidate} (another result!)` : line.candidate,
    digits(line.milliseconds),
    line.quartiles.map(digits).join(" to "),
    fixed(line.gigaflops, 1),
    fixed(line.gigabytes, 2),
    fixed(line.tokensPerSecond, 1),
    line.partOfPeak === null ? "" : `${(100 * line.partOfPeak).toFixed(0)} %`,
    line.ratio === null ? "" : `×${line.ratio.toFixed(2)}`,
    lead,
  ];
}

/** The rows of one benchmark, without columns that hold nothing. */
function rowsOf(lines: readonly Line[]): string[][] {
  const ours = oursOf(lines);
  const rows = [columns, ...lines.map((line) => cells(line, ours))];
  const used = columns.map((_, i) => rows.slice(1).some((row) => row[i] !== ""));
  return rows.map((row) => row.filter((_, i) => used[i]));
}

function heading(report: Report): string[] {
  const { adapter, kind, commit, tunings, date, load, peaks, dispatchMicroseconds, peers, failures } = report;
  return [
    `${adapter}, ${kind}; commit ${commit}, ${date}`,
    `medians of interleaved rounds; load average ${load.map((l) => l.toFixed(1)).join(" before, ")} after`,
    tunings > 0 ? `kernels as rot-cli tune set them: ${tunings} choices` : "kernels at the settings they ship with",
    `measured peak: ${peaks.gigaflops.toFixed(1)} GFLOP/s, ${peaks.gigabytes.toFixed(1)} GB/s`,
    `dispatch: ${dispatchMicroseconds.toFixed(1)} µs of JavaScript`,
    ...(peers.length > 0 ? [`peers: ${peers.map(({ name, version }) => `${name} ${version}`).join(", ")}`] : []),
    ...failures.map(({ name, why }) => `did not run: ${name}: ${why.split("\n")[0]}`),
  ];
}

/** Ours beside every peer, a row for each benchmark that a peer ran. */
function peerTable({ lines }: Report): string[][] {
  const peers = [...new Set(lines.filter(isPeer).map(({ candidate }) => candidate))];
  if (peers.length === 0) return [];
  const rows = [...grouped(lines)].flatMap(([benchmark, own]) => {
    const ours = oursOf(own);
    if (!ours || !own.some(isPeer)) return [];
    const times = peers.map((peer) => {
      const line = own.find(({ candidate }) => candidate === peer);
      return line ? `${digits(line.milliseconds)}${line.comparable ? "" : " !"}` : "";
    });
    const leads = (["webgpu", "wasm", "cpu"] as const).map((by) => lead(own, ours, by));
    const shown = leads.map((one) => (one === null ? "" : `×${one.toFixed(2)}`));
    return [[benchmark, digits(ours.milliseconds), ...times, ...shown, target(ours, leads)]];
  });
  return [["ms", "ours", ...peers, "to best WebGPU", "to best wasm", "to best CPU", "target"], ...rows];
}

/** How many times faster ours is than the fastest of one kind that computed the same. */
function lead(own: readonly Line[], ours: Line, by: PeerKind): number | null {
  const times = own.filter((line) => line.by === by && line.comparable).map(({ milliseconds }) => milliseconds);
  return times.length === 0 ? null : Math.min(...times) / ours.milliseconds;
}

/** What ours shall be: so many times as fast as the best WebGPU peer, and faster than wasm. */
function target({ target }: Line, [webgpu, wasm]: readonly (number | null | undefined)[]): string {
  if (target === null || (webgpu ?? wasm ?? null) === null) return "";
  const missed = [(webgpu ?? Infinity) < target && "WebGPU", (wasm ?? Infinity) < 1 && "wasm"].filter(Boolean);
  return `×${target}${missed.length > 0 ? ` missed: ${missed.join(", ")}` : ""}`;
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] as string).length)));
  return rows.map((row) =>
    `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join("  ")}`.trimEnd(),
  );
}

function marked(rows: readonly (readonly string[])[]): string[] {
  const [head = [], ...rest] = rows;
  return [head, head.map((_, i) => (i === 0 ? ":--" : "--:")), ...rest].map((row) => `| ${row.join(" | ")} |`);
}

/** For a terminal. */
export function table(report: Report): string {
  const out = heading(report);
  for (const [name, own] of grouped(report.lines)) out.push("", name, ...aligned(rowsOf(own)));
  const peers = peerTable(report);
  if (peers.length > 0) out.push("", "beside the peers", ...aligned(peers));
  return out.join("\n");
}

/**
 * For a dated file.
 *
 * @param picture  the name of the roofline's file, beside it
 */
export function markdown(report: Report, picture: string): string {
  const out = [`# Benchmarks, ${report.date.slice(0, 10)}`, "", ...heading(report).map((line) => `- ${line}`)];
  const peers = peerTable(report);
  if (peers.length > 0) {
    const note =
      "×2 says that ours takes half the time of the fastest of them; `!` marks another result than ours, which does not count. The target is for the best WebGPU peer; for wasm it is ×1.";
    out.push("", "## Beside the peers", "", ...marked(peers), "", note);
  }
  out.push("", `![operations a second over operations a byte](${picture})`);
  for (const [name, own] of grouped(report.lines)) out.push("", `## ${name}`, "", ...marked(rowsOf(own)));
  return `${out.join("\n")}\n`;
}
