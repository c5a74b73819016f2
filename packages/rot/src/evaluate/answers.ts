/** Whether an answer is right: taken out of what a model wrote, read as a number where it is one, and compared. */
import { braced, latexText, withoutMarkup } from "./latex.ts";
import { lastNumber, numberOf } from "./numbers.ts";

/** How answers are found and compared. `reference` is the rule of the published evaluation, faults included. */
export type AnswerRule = "robust" | "reference";

/** What was found, and whether it is right. */
export interface Verdict {
  /** The answer found in the prediction; null where there is none. */
  readonly predicted: string | null;
  readonly expected: string;
  readonly correct: boolean;
}

/**
 * Compares a prediction with the answer of the data.
 *
 * @param prediction  all that the model wrote after its reasoning
 * @param truth       the answer of the data, perhaps with units, LaTeX or `####`
 */
export function checkAnswer(prediction: string, truth: string, rule: AnswerRule = "robust"): Verdict {
  if (rule === "reference") {
    const [predicted, expected] = [referenceAnswer(prediction), referenceAnswer(truth)];
    return { predicted, expected, correct: referenceEqual(predicted, expected) };
  }
  const predicted = extractAnswer(prediction);
  const expected = statedAnswer(truth);
  return { predicted, expected, correct: predicted !== null && answersEqual(predicted, expected) };
}

/** The answer of the data: it stands alone, or after `####`, or in `\\boxed{…}`. */
const statedAnswer = (truth: string): string =>
  /#{3,}/.test(truth) || lastBoxed(truth) !== null ? (extractAnswer(truth) ?? "") : truth.trim();

/** What announces an answer. */
const announcement = /answer(?:\s+is\s*[:：]?|\s*[:：])|答案(?:是|为)?\s*[:：]?/gi;
/** Lines after `###` that are headings of Markdown, and no answers. */
const heading = /^\W*(?:final|answer|step|solution|conclusion|result|verif|check|summary|explanation|答案)/i;

/**
 * The answer in a text: after the last `###` or `####`, in the last `\boxed{…}`, after the last "answer is", or else the
 * last number.
 *
 * @returns null for a text without any
 */
export function extractAnswer(text: string): string | null {
  const marked = text.split(/#{3,}/);
  if (marked.length > 1) {
    const line = firstLine(marked.at(-1) as string);
    if (line !== "" && !heading.test(line)) return line;
  }
  const boxed = lastBoxed(text);
  if (boxed !== null) return boxed;
  const plain = latexText(text);
  const announced = [...plain.matchAll(announcement)].at(-1);
  if (announced) {
    const line = firstLine(plain.slice(announced.index + announced[0].length).replace(/^[\s*_]+/, ""));
    if (line !== "") return lastNumber(untilWords(line)) ?? lastNumber(line) ?? line;
  }
  const number = lastNumber(plain);
  if (number !== null) return number;
  const whole = text.trim();
  return whole === "" ? null : whole;
}

const firstLine = (text: string): string => withoutMarkup(text.trim().split(/\r?\n|<\|im_end\|>/)[0] ?? "");

/** What stands before the first word: `3 + 2 = 5` of `3 + 2 = 5 apples, of 7`. */
const untilWords = (line: string): string => line.slice(0, /[a-z]{2}/i.exec(line)?.index);

/** What stands in the last `\boxed{…}`, whose braces may hold others. */
function lastBoxed(text: string): string | null {
  const begin = text.lastIndexOf("\\boxed{");
  return begin < 0 ? null : braced(text, begin + 6);
}

/** Whether two answers mean the same: as numbers where both are, else as texts without markup, case and blanks. */
export function answersEqual(a: string, b: string): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return Math.abs(x - y) <= 1e-9 * Math.max(1, Math.abs(x), Math.abs(y));
  if (x !== null || y !== null) return false;
  return bare(a) === bare(b);
}

/** A text without what carries no meaning: markup, LaTeX layout, case, blanks, a final dot, brackets around one letter. */
const bare = (text: string): string =>
  withoutMarkup(latexText(text))
    .toLowerCase()
    .replace(/[\s$]/g, "")
    .replace(/^\(([a-z])\)$/, "$1");

/** The published patterns, in their order; each finds an unsigned number. */
const referencePatterns = [
  /####\s*(\d+(?:\.\d+)?)/i,
  /答案是[：:]\s*(\d+(?:\.\d+)?)/i,
  /Therefore,?\s+.*?(\d+(?:\.\d+)?)/i,
  /Answer[：:]\s*(\d+(?:\.\d+)?)/i,
  /\$(\d+(?:\.\d+)?)/i,
  /(\d+(?:\.\d+)?)\s*$/i,
];

/** The answer as the published evaluation extracts it: signs, separators and fractions are lost. */
export function referenceAnswer(text: string): string {
  for (const pattern of referencePatterns) {
    const found = pattern.exec(text)?.[1];
    if (found !== undefined) return found;
  }
  return text.trim();
}

/** Python's `float` takes these, and blanks around them. */
const pythonFloat = /^[+-]?(?:\d+(?:_\d+)*\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)$/i;

function referenceEqual(a: string, b: string): boolean {
  if (pythonFloat.test(a) && pythonFloat.test(b)) {
    return Math.abs(Number(a.replaceAll("_", "")) - Number(b.replaceAll("_", ""))) < 1e-9;
  }
  return a === b;
}
