/** LaTeX to the plain text that says the same, as far as answers need it. */

const FRACTION = /(\d)?\s*\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))/g;

/** Layout that means nothing, and names that stand for signs. */
const plain: readonly (readonly [RegExp, string])[] = [
  [/\\(?:left|right|displaystyle|mathrm|mathbf|mathit|operatorname|text(?:bf|it|rm)?|mbox)(?![a-z])\s*/g, ""],
  [/\\(?:!|,|;|:|quad|qquad|\s)/g, " "],
  [/\\(?:cdot|times)(?![a-z])/g, "*"],
  [/\\(?:degree|circ)(?![a-z])/g, "°"],
  [/\\pi(?![a-z])/g, "π"],
  [/\\sqrt(?![a-z])/g, "√"],
  [/\\([%$#&_])/g, "$1"],
  [/\^\s*\{?°\}?/g, "°"],
];

/**
 * A text with its LaTeX made plain: `\frac{1}{2}` becomes `1/2`, `\text{ cm}` becomes ` cm`, `1{,}000` becomes `1,000`.
 * What it does not know it leaves.
 */
export function latexText(text: string): string {
  let result = text.replaceAll("{,}", ",").replaceAll("\\!", "");
  for (const [pattern, replacement] of plain) result = result.replace(pattern, replacement);
  // From the inside out. Nobody nests fractions deeper.
  for (let depth = 0; depth < 8 && result.includes("frac"); depth++) result = result.replace(FRACTION, fraction);
  return result.replace(/[{}]/g, "");
}

/** What stands around a formula. */
const formula = /^(?:\\\((.*)\\\)|\\\[(.*)\\\]|\$+([^$]*)\$+)$/s;

/** A text without blanks, Markdown's emphasis, a final dot and the signs of a formula around it. */
export function withoutMarkup(text: string): string {
  let [begin, end] = [0, text.length];
  while (begin < end && /[\s*_`]/.test(text[begin] as string)) begin++;
  while (end > begin && /[\s*_`.。]/.test(text[end - 1] as string)) end--;
  const inner = text.slice(begin, end);
  return (
    formula
      .exec(inner)
      ?.slice(1)
      .find((part) => part !== undefined) ?? inner
  ).trim();
}

/** One fraction. A digit before it makes it a mixed number. */
function fraction(_: string, whole?: string, a?: string, b?: string, c?: string, d?: string): string {
  const [top, bottom] = [(a ?? b ?? "").trim(), (c ?? d ?? "").trim()];
  const group = (part: string): string => (/^-?[\w.√π]+$/.test(part) ? part : `(${part})`);
  return `${whole === undefined ? "" : `${whole} `}${group(top)}/${group(bottom)}`;
}

/**
 * What stands between a brace and the one that closes it, without blanks around it.
 *
 * @param open  where the brace is
 * @returns     null when it is not closed
 */
export function braced(text: string, open: number): string | null {
  let depth = 0;
  for (let at = open; at < text.length; at++) {
    if (text[at] === "{") depth++;
    else if (text[at] === "}" && --depth === 0) return text.slice(open + 1, at).trim();
  }
  return null;
}
