/** The results of the tiny model as text. */
import { ablations } from "./evaluate.ts";
import type { TinyResults, TinyRow } from "./results.ts";

const names: Readonly<Record<TinyRow["arm"], string>> = {
  direct: "answers at once",
  chain: "chain of thought as text",
  "rot-stage1": "Render-of-Thought, stage 1",
  rot: "Render-of-Thought, stages 1 and 2",
  "without-stage1": "Render-of-Thought, stage 2 alone",
};
const replacement: Readonly<Record<(typeof ablations)[number], string>> = {
  other: "another question's",
  mean: "their mean over all questions",
  shuffled: "in reverse order",
  zeros: "zeros",
  none: "none at all",
  drawn: "what the tower sees in the right chain",
};

const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** Lines of cells, each column as wide as it needs; the first to the left, the others to the right. */
function columns(lines: readonly (readonly string[])[]): string[] {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((cells) => (cells[i] as string).length)));
  const pad = (cell: string, i: number): string =>
    i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number);
  return lines.map((cells) => cells.map(pad).join("  ").trimEnd());
}

/** A table of the arms; what the best thinker's answers depend on; and what it was thinking. */
export function tinyTable({ rows, problems }: Pick<TinyResults, "rows" | "problems">): string {
  const error = (part: number): string => (100 * Math.sqrt((part * (1 - part)) / problems)).toFixed(1);
  const table = columns([
    ["", "accuracy", "±", "tokens or latents", "seconds to train", `seconds for ${problems} answers`],
    ...rows.map(({ arm, accuracy, thoughts, trainingSeconds, seconds }) => [
      names[arm],
      percent(accuracy),
      error(accuracy),
      thoughts.toFixed(1),
      trainingSeconds.toFixed(0),
      seconds.toFixed(1),
    ]),
  ]);
  const thinker = rows.findLast(({ arm }) => arm === "rot") ?? rows.find(({ arm }) => arm === "rot-stage1");
  if (!thinker?.details) return table.join("\n");
  const { ablations: parts, readable, examples, accuracy } = thinker.details;
  return [
    ...table,
    "",
    `${names[thinker.arm]}: accuracy by the latents that it answers from`,
    ...columns([["its own", percent(accuracy)], ...ablations.map((name) => [replacement[name], percent(parts[name])])]),
    "",
    `The base reads the right digit in its latents 1 to ${readable.length}: ${readable.map(percent).join(", ")}`,
    ...columns([
      ["question", "right steps", "steps read in its latents"],
      ...examples.map(({ question, right, read }) => [question, right, read]),
    ]),
  ].join("\n");
}
