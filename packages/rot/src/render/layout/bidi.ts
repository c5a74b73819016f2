/** The order of right-to-left text: the implicit part of Unicode's bidirectional algorithm. */

/**
 * The classes that the rules below tell apart. Explicit embeddings, overrides and isolates are neutral here (N): they
 * change no order, and HarfBuzz draws nothing for them.
 */
type Class = "L" | "R" | "AL" | "EN" | "AN" | "ES" | "ET" | "CS" | "NSM" | "N";

const patterns: readonly (readonly [Class, RegExp])[] = [
  ["NSM", /\p{Mn}|\p{Me}/u],
  ["AN", /[\u0660-\u0669\u066b\u066c\u06dd]/u],
  ["EN", /[0-9\u06f0-\u06f9\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]/u],
  ["ES", /[-+\u207a\u207b\u208a\u208b\u2212]/u],
  ["ET", /[#$%\u00a2-\u00a5\u00b0\u00b1\u066a\u2030-\u2034]|\p{Sc}/u],
  ["CS", /[,./:\u00a0\u060c\u202f\u2044]/u],
  ["AL", /(?=\p{L}|\p{P}|\p{S})[\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u],
  ["R", /[\p{Script=Hebrew}\p{Script=Nko}\u0590-\u05ff\u07c0-\u085f\u200f]/u],
  ["L", /\p{L}|\p{Nl}|\p{Nd}|\p{Mc}|\u200e/u],
];
const known = new Map<number, Class>();

function classOf(codePoint: number): Class {
  let found = known.get(codePoint);
  if (!found) {
    const character = String.fromCodePoint(codePoint);
    found = patterns.find(([, pattern]) => pattern.test(character))?.[0] ?? "N";
    known.set(codePoint, found);
  }
  return found;
}

/** Left of this, nothing is written from right to left. */
const firstRightToLeft = 0x590;

/**
 * The embedding level of every character of one line: even ones run to the right, odd ones to the left.
 *
 * The paragraph runs as its first strong character does. Rules W1 to W7, N1, N2 and I1, I2; brackets are not paired (N0).
 *
 * @see https://www.unicode.org/reports/tr9/
 */
export function bidiLevels(codePoints: readonly number[]): Uint8Array {
  const levels = new Uint8Array(codePoints.length);
  if (codePoints.every((codePoint) => codePoint < firstRightToLeft)) return levels;
  const classes = codePoints.map(classOf);
  const strong = classes.find((one) => one === "L" || one === "R" || one === "AL");
  const base = strong === "R" || strong === "AL" ? 1 : 0;
  resolveWeak(classes, base ? "R" : "L");
  resolveNeutral(classes, base ? "R" : "L");
  for (const [i, one] of classes.entries()) {
    if (base === 0) levels[i] = one === "R" ? 1 : one === "L" ? 0 : 2;
    else levels[i] = one === "R" ? 1 : 2;
  }
  // L1: the spaces at the end of a line run as the paragraph does.
  for (let i = codePoints.length - 1; i >= 0 && /\s/u.test(String.fromCodePoint(codePoints[i]!)); i--) levels[i] = base;
  return levels;
}

/** W1 to W7, in place: what is left are L, R, EN, AN and N. */
function resolveWeak(classes: Class[], base: Class): void {
  let before: Class = base;
  let strong: Class = base;
  for (const [i, one] of classes.entries()) {
    if (one === "NSM") classes[i] = before; // W1
    before = classes[i]!;
    if (before === "L" || before === "R" || before === "AL") strong = before;
    if (before === "EN" && strong === "AL") classes[i] = "AN"; // W2
  }
  for (let i = 0; i < classes.length; i++) if (classes[i] === "AL") classes[i] = "R"; // W3
  for (let i = 1; i < classes.length - 1; i++) {
    const [left, one, right] = [classes[i - 1]!, classes[i]!, classes[i + 1]!];
    if (one === "ES" && left === "EN" && right === "EN") classes[i] = "EN"; // W4
    if (one === "CS" && left === right && (left === "EN" || left === "AN")) classes[i] = left;
  }
  for (let i = 0; i < classes.length;) {
    if (classes[i] !== "ET") {
      i++;
      continue;
    }
    let end = i;
    while (classes[end] === "ET") end++;
    if (classes[i - 1] === "EN" || classes[end] === "EN") classes.fill("EN", i, end); // W5
    i = end;
  }
  strong = base;
  for (const [i, one] of classes.entries()) {
    if (one === "ES" || one === "ET" || one === "CS") classes[i] = "N"; // W6
    if (one === "L" || one === "R") strong = one;
    if (one === "EN" && strong === "L") classes[i] = "L"; // W7
  }
}

/** N1, N2: neutrals between two of a kind join them, others run as the paragraph does. Numbers count as R. */
function resolveNeutral(classes: Class[], base: Class): void {
  const side = (one: Class | undefined): Class => (one === undefined ? base : one === "L" ? "L" : "R");
  for (let i = 0; i < classes.length;) {
    if (classes[i] !== "N") {
      i++;
      continue;
    }
    let end = i;
    while (classes[end] === "N") end++;
    const [left, right] = [side(classes[i - 1]), side(classes[end])];
    classes.fill(left === right ? left : base, i, end);
    i = end;
  }
}

/** The runs of one level in the order they are drawn from left to right, each [start, end). */
export function visualRuns(levels: Uint8Array): { start: number; end: number; level: number }[] {
  const runs: { start: number; end: number; level: number }[] = [];
  for (let start = 0; start < levels.length;) {
    let end = start + 1;
    while (end < levels.length && levels[end] === levels[start]) end++;
    runs.push({ start, end, level: levels[start]! });
    start = end;
  }
  // L2: from the highest level down to the lowest odd one, turn every stretch of at least that level around.
  const highest = runs.reduce((most, run) => Math.max(most, run.level), 0);
  for (let level = highest; level >= 1; level--) {
    for (let i = 0; i < runs.length;) {
      let end = i;
      while (end < runs.length && runs[end]!.level >= level) end++;
      if (end > i) runs.splice(i, end - i, ...runs.slice(i, end).reverse());
      i = Math.max(end, i + 1);
    }
  }
  return runs;
}
