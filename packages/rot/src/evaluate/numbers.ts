/** Numbers as people and models write them in answers. */
import { latexText, withoutMarkup } from "./latex.ts";

/** Digits in a text: thousands are set apart by commas alone, for blanks stand between numbers too. */
const DIGITS = String.raw`\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+`;
/** `1.5e3`, `1.5 × 10^3` */
const POWER = String.raw`(?:e[+-]?\d+|\s?[*×·x]\s?10\^\(?[-+−]?\d+\)?)?`;
const CURRENCY = "[$€£¥₹]";
const SIGNED = String.raw`[-+−–]?\s?${CURRENCY}?\s?[-+−–]?\s?(?:${DIGITS})${POWER}(?:\s?/\s?(?:${DIGITS}))?\s?%?`;
/** A sign after a digit or a letter is a minus between two numbers or a hyphen, not the sign of the second. */
const inText = new RegExp(String.raw`(?<![\w.)])${SIGNED}|(?:${DIGITS})${POWER}(?:\s?/\s?(?:${DIGITS}))?\s?%?`, "gi");

/** The last number in a text, as it is written there. */
export const lastNumber = (text: string): string | null => text.match(inText)?.at(-1)?.trim() ?? null;

/** An answer that is a number and nothing else but for units. Alone, its thousands may be set apart by blanks too. */
const alone = new RegExp(
  [
    String.raw`^(?:[a-z]\s*=|[\d\s.+*/×÷()$-]*=|[≈~]|(?:about|approximately|around|roughly|exactly|usd|eur|gbp)\s)?\s*`,
    String.raw`(?<sign>[-+]?)\s*${CURRENCY}?\s*(?<minus>[-+]?)\s*`,
    String.raw`(?:(?<mixed>\d+)\s+(?:and\s+)?(?=\d+\s?/))?`,
    String.raw`(?<top>\d{1,3}(?<mark>[ _'’])\d{3}(?:\k<mark>\d{3})*(?:\.\d+)?|(?:${DIGITS})${POWER})`,
    String.raw`(?:\s*/\s*(?<below>-?)(?<bottom>${DIGITS}))?`,
    String.raw`\s*(?:%|°|¢|${CURRENCY})?(?<unit>\s*\p{L}[\p{L}²³/^.\s-]*\d?)?$`,
  ].join(""),
  "iu",
);

/** A letter or two behind a number are a variable, unless they are one of these units. */
const shortUnits = new Set(
  "m g s h l cm mm km dm kg mg ml dl cl kw hr hz ft in lb oz yd mi am pm st nd rd th of an a".split(" "),
);
const variable = /^\s*(?<letters>[a-zα-ω]{1,2})(?![a-zα-ω])/iu;

const scales: Readonly<Record<string, number>> = { thousand: 1e3, million: 1e6, billion: 1e9, trillion: 1e12 };

/**
 * The number that an answer is: signs, thousands separators, fractions, mixed numbers, powers of ten, `million`, percent signs
 * (`50%` is 50), currencies and units around it are understood.
 *
 * @returns null when it is no number: `3x` is none, nor is `3 or 4`
 */
export function numberOf(answer: string): number | null {
  const { sign, minus, mixed, top, below, bottom, unit = "" } = alone.exec(plain(answer))?.groups ?? {};
  if (top === undefined) return null;
  const letters = variable.exec(unit)?.groups?.["letters"];
  if (letters !== undefined && !shortUnits.has(letters.toLowerCase())) return null;
  const scale = scales[/^\s*(\w+)/.exec(unit)?.[1]?.toLowerCase() ?? ""] ?? 1;
  const size = parse(top) / (bottom === undefined ? 1 : parse(bottom)) + (mixed === undefined ? 0 : parse(mixed));
  const isNegative = [sign, minus, below].filter((each) => each === "-").length % 2 === 1;
  const value = (isNegative ? -size : size) * scale;
  return Number.isFinite(value) ? value : null;
}

/** Without LaTeX, markup, and brackets around it all, and with the digits and signs of ASCII. */
function plain(answer: string): string {
  let text = withoutMarkup(latexText(answer));
  if (/^\([^()]*\)$|^\[[^[\]]*\]$/.test(text)) text = withoutMarkup(text.slice(1, -1));
  return text
    .replace(/(\d?)([¼-¾⅐-⅞])/g, (_, whole: string, part: string) => `${whole} ${part.normalize("NFKC")}`)
    .replace(/[！-～]/g, (wide) => String.fromCharCode(wide.charCodeAt(0) - 0xfee0))
    .replace(/[−–]/g, "-")
    .replace(/°\s?[CF]$/, "°")
    .replaceAll("⁄", "/")
    .replace(/\s+/g, " ")
    .trim();
}

function parse(written: string): number {
  const [, digits = "", power = "0"] = /^(.*?)(?:(?:e|\s?[*×·x]\s?10\^\(?)([-+]?\d+)\)?)?$/i.exec(written) ?? [];
  return Number(`${digits.replace(/[^\d.]/g, "")}e${power}`);
}
