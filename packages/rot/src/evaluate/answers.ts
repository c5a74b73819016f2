/** Whether an answer is right: taken out of what a model wrote, read as a number where it is one, and compared. */
import { braced, latexText } from "./latex.ts";

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

const NUMBER = String.raw`\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+`;
const POWER = String.raw`(?:e[+-]?\d+)?`;
const SIGNED = String.raw`[-+−–]?\s?[$€£¥]?\s?[-+−–]?\s?(?:${NUMBER})${POWER}(?:\s?/\s?(?:${NUMBER}))?\s?%?`;
/** A sign after a digit or a letter is a minus between two numbers or a hyphen, not the sign of the second. */
const numbers = new RegExp(String.raw`(?<![\w.)])${SIGNED}|(?:${NUMBER})${POWER}(?:\s?/\s?(?:${NUMBER}))?\s?%?`, "gi");
/** Words that announce an answer; what stands after the last of them counts. */
const announcements = /(?:answer(?:\s+is)?|答案是|therefore|thus|hence|so)\s*[:：,]?\s/gi;

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
    if (line !== "") return line;
  }
  const boxed = lastBoxed(text);
  if (boxed !== null) return boxed;
  const plain = latexText(text);
  const announced = [...plain.matchAll(announcements)].at(-1);
  if (announced && /answer|答案/i.test(announced[0])) {
    const line = firstLine(plain.slice(announced.index + announced[0].length)).replace(/\.$/, "");
    const number = lastNumber(line);
    if (number !== null || line !== "") return number ?? line;
  }
  const number = lastNumber(plain);
  if (number !== null) return number;
  const whole = text.trim();
  return whole === "" ? null : whole;
}

const firstLine = (text: string): string =>
  text
    .trim()
    .split(/\r?\n|<\|im_end\|>/)[0]
    ?.trim() ?? "";

const lastNumber = (text: string): string | null => text.match(numbers)?.at(-1)?.trim() ?? null;

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

/** A text without what carries no meaning: LaTeX layout, case, blanks, a final dot. */
const bare = (text: string): string =>
  latexText(text)
    .toLowerCase()
    .replace(/[\s$]/g, "")
    .replace(/[.。]$/, "");

/**
 * The number that an answer is: signs, thousands separators, fractions, mixed numbers, percent signs (`50%` is 50),
 * currencies and units around it are understood.
 *
 * @returns null when it is no number
 */
export function numberOf(answer: string): number | null {
  const text = latexText(answer)
    .replace(/[−–]/g, "-")
    .trim()
    .replace(/[.。]$/, "");
  const whole = new RegExp(
    String.raw`^(?:[a-z]\s*=\s*)?(?<sign>[-+]?)\s*[$€£¥]?\s*(?<minus>[-+]?)\s*(?:(?<mixed>\d+)\s+(?=\d+\s?/))?(?<top>(?:${NUMBER})${POWER})(?:\s*/\s*(?<sign2>-?)(?<bottom>${NUMBER}))?\s*(?:%|°|[$€£¥])?(?:\s*[a-zµ][a-z²³/^.\s-]*\d?)?$`,
    "iu",
  ).exec(text);
  if (!whole?.groups) return null;
  const { sign, minus, mixed, top, bottom, sign2 } = whole.groups;
  const parse = (digits: string): number => Number(digits.replaceAll(",", ""));
  const value = parse(top as string) / (bottom === undefined ? 1 : parse(bottom)) + (mixed ? parse(mixed) : 0);
  if (!Number.isFinite(value)) return null;
  const negative = [sign, minus, sign2].filter((s) => s === "-").length % 2 === 1;
  return negative ? -value : value;
}

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
