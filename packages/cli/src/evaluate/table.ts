/** A summary as a table for people. */
import type { ArmSummary, Summary } from "@rot/rot";

const columns: readonly (readonly [name: string, cell: (arm: ArmSummary) => string])[] = [
  ["Pass@1", ({ score }) => (score ? `${score.pass_at_1.toFixed(1)} %` : "-")],
  ["95 %", ({ score }) => (score ? score.interval.map((end) => end.toFixed(1)).join(" to ") : "-")],
  ["#L", ({ latents }) => latents.toFixed(1)],
  ["Pass@1/#L", ({ score }) => score?.pass_at_1_per_latent?.toFixed(2) ?? "-"],
  ["s/sample", (arm) => arm.seconds_per_sample.toPrecision(3)],
  ["tokens/s", (arm) => arm.tokens_per_second.toPrecision(3)],
  ["ended", ({ stopped }) => `${stopped.toFixed(0)} %`],
  ["failed", ({ failed }) => String(failed)],
];

/** One line an arm, below a line of names. */
export function printSummary({ arms, compression, total }: Summary): string {
  const rows = [
    ["latents", ...columns.map(([name]) => name)],
    ...Object.entries(arms).map(([name, arm]) => [name, ...columns.map(([, cell]) => cell(arm))]),
  ];
  const widths = (rows[0] as string[]).map((_, i) => Math.max(...rows.map((row) => (row[i] as string).length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join("  ");
  const drawn =
    compression &&
    `Chains have ${compression.avg_compression_ratio.toFixed(2)} text tokens for each latent that they become when drawn` +
      (compression.avg_used_ratio === null
        ? "."
        : `, ${compression.avg_used_ratio.toFixed(2)} for each that was used.`);
  return `${[`${total} answers.`, ...rows.map(line), ...(drawn ? [drawn] : [])].join("\n")}\n`;
}
