/** The results of the tiny model as text that explains itself. */
import { ablations } from "./evaluate.ts";
import type { TinyResults, TinyRow } from "./results.ts";

const names: Readonly<Record<TinyRow["arm"], readonly [name: string, meaning: string]>> = {
  direct: ["answer at once", "the base, trained further to answer without any steps"],
  chain: ["chain of thought as text", "the base as it is: writes its five steps, then the answer"],
  "rot-stage1": ["Render-of-Thought, stage 1", "a head on the unchanged base learned to think in five latents"],
  rot: ["Render-of-Thought, stages 1 and 2", "then the decoder learned, by LoRA, to answer after its own latents"],
  "without-stage1": ["Render-of-Thought, stage 2 alone", "the same LoRA after latents of a head that learned nothing"],
};
const replacement: Readonly<Record<(typeof ablations)[number], string>> = {
  other: "another question's",
  mean: "their mean over all questions",
  reversed: "its own in reverse order",
  zeros: "zeros",
  none: "none at all",
  drawn: "what the tower sees in the right chain",
};

const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** Lines of cells, each column as wide as it needs; as many to the left as are said, the others to the right. */
function columns(lines: readonly (readonly string[])[], left = 1): string[] {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((cells) => (cells[i] as string).length)));
  const pad = (cell: string, i: number): string =>
    i < left ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number);
  return lines.map((cells) => cells.map(pad).join("  ").trimEnd());
}

/** A table of the arms and what they are; what the best thinker's answers depend on; and what it was thinking. */
export function tinyTable({ rows, problems }: Pick<TinyResults, "rows" | "problems">): string {
  const error = (part: number): string => (100 * Math.sqrt((part * (1 - part)) / problems)).toFixed(1);
  const table = [
    `${problems} test problems, none of which was trained on or looked at before (±: one standard error)`,
    "",
    ...columns([
      ["", "accuracy", "±", "tokens or latents", "seconds to train", "seconds to answer"],
      ...rows.map(({ arm, accuracy, thoughts, trainingSeconds, seconds }) => [
        names[arm][0],
        percent(accuracy),
        error(accuracy),
        thoughts.toFixed(1),
        trainingSeconds.toFixed(0),
        seconds.toFixed(1),
      ]),
    ]),
    "",
    ...columns(
      rows.map(({ arm }) => names[arm]),
      2,
    ),
    "",
    "The base was pre-trained on problems whose reasoning is partly picture, partly text: without that, a model as",
    "small as this one does not learn to think in latents.",
  ];
  const thinker = rows.findLast(({ arm }) => arm === "rot") ?? rows.find(({ arm }) => arm === "rot-stage1");
  if (!thinker?.details) return table.join("\n");
  const { ablations: parts, readable, examples, accuracy } = thinker.details;
  return [
    ...table,
    "",
    `${names[thinker.arm][0]}: accuracy when it answers from other latents`,
    ...columns([["its own", percent(accuracy)], ...ablations.map((name) => [replacement[name], percent(parts[name])])]),
    "Where another question's latents do no better than a guess (10 to 15 %), its answers come from its own.",
    ...(rows.some(({ arm }) => arm === "direct")
      ? ["The last latent alone holds the answer; what the others are for, the gap to answering at once shows."]
      : []),
    "",
    "What it was thinking: the base reads its latents as it reads strips",
    ...columns([
      ["question", "right steps", "steps read in its latents"],
      ...examples.map(({ question, right, read }) => [question, right, read]),
    ]),
    `Of all latents 1 to ${readable.length} it reads the right digit in ${readable.map(percent).join(", ")}`,
  ].join("\n");
}
