/** The text report: the reference's, then what it does not say. */
import type { Statistics } from "./collect.ts";
import type { Distribution } from "./statistics.ts";

/** What the report is about. */
export interface About {
  readonly dataset: string;
  readonly split: string;
}

const RULE = "=".repeat(80);

/** The report's text, its last line ended. @param rendered  rows that the encoding takes whole */
export function reportText({ dataset, split }: About, statistics: Statistics, rendered: number): string {
  const { total_samples: total, vision_tokens: vision, text_tokens: text } = statistics;
  const lines = [
    "Data Preprocessing Report",
    RULE,
    "",
    `Dataset: ${dataset}`,
    `Split: ${split}`,
    `Total samples: ${total}`,
    "",
    `Can render completely: ${rendered}/${total} (${percent(rendered, total)})`,
    "",
    "Character length distribution:",
    ...described(statistics.cot_char_length, ["Mean", "Std", "Min", "Max", "Median"]),
    "",
    "Estimated line count distribution:",
    ...described(statistics.estimated_lines, ["Mean", "Median", "Max"]),
    "",
    ...section("Word count distribution", statistics.cot_word_count),
    ...section("Strip width distribution (pixels)", statistics.strip_width),
    ...section("Vision token distribution, exact encoding", statistics.vision_tokens.exact),
    ...section("Vision token distribution, reference encoding", statistics.vision_tokens.reference),
    `Strips too wide for the reference: ${vision.reference_too_wide}`,
    "",
  ];
  if (text) {
    lines.push(
      ...section("Question token distribution", text.question),
      ...section("Chain token distribution, as text", text.cot),
      ...section("Answer token distribution", text.answer),
      ...section("Sequence token distribution (question, latents, answer)", text.sequence),
    );
  }
  const { characters, rows } = statistics.missing_characters;
  lines.push(`Characters in no font: ${characters} in ${rows} rows`);
  lines.push(`Rows without a chain: ${statistics.empty_chains}`);
  lines.push(`Rows left out: ${statistics.skipped.count}`);
  for (const { place, reason } of statistics.skipped.rows) lines.push(`  ${place}: ${reason}`);
  if (statistics.skipped.count > statistics.skipped.rows.length) lines.push("  and more");
  return `${[...lines, "", RULE].join("\n")}\n`;
}

type Name = "Mean" | "Std" | "Min" | "Max" | "Median" | "95 %";

function described(distribution: Distribution, names: readonly Name[]): string[] {
  const { mean, std, min, max, median, percentile_95 } = distribution;
  const values: Readonly<Record<Name, string>> = {
    Mean: mean.toFixed(1),
    Std: std.toFixed(1),
    Min: String(min),
    Max: String(max),
    Median: median.toFixed(1),
    "95 %": percentile_95.toFixed(1),
  };
  return names.map((name) => `  ${name}: ${values[name]}`);
}

const section = (title: string, distribution: Distribution): string[] => [
  `${title}:`,
  ...described(distribution, ["Mean", "Std", "Min", "Max", "Median", "95 %"]),
  "",
];

/** One decimal. */
const percent = (part: number, whole: number): string => `${whole === 0 ? "0.0" : ((100 * part) / whole).toFixed(1)}%`;
