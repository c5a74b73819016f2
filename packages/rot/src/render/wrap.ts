/** Breaks text into lines that fit a width. */
import type { Layout, Line } from "./layout/line.ts";

/**
 * Wraps at spaces, and at line breaks; a word wider than the line is cut where it must be.
 *
 * The space at a break is not drawn. A single character wider than the line has a line to itself.
 *
 * @param width    pixels
 * @param layout   lays out one line
 * @param measure  the width of a line in pixels
 */
export function wrap(text: string, width: number, layout: Layout, measure: (line: Line) => number): Line[] {
  const fits = (candidate: string): boolean => measure(layout(candidate)) <= width;
  const lines: Line[] = [];
  for (const paragraph of text.split(/\r\n|\r|\n/)) {
    let current: string | undefined;
    for (const word of paragraph.split(" ")) {
      const longer: string = current === undefined ? word : `${current} ${word}`;
      if (fits(longer)) {
        current = longer;
        continue;
      }
      if (current !== undefined) lines.push(layout(current));
      let rest = Array.from(word);
      while (!fits(rest.join(""))) {
        const count = longestPrefix(rest, fits);
        if (count === rest.length) break;
        lines.push(layout(rest.slice(0, count).join("")));
        rest = rest.slice(count);
      }
      current = rest.join("");
    }
    lines.push(layout(current ?? ""));
  }
  return lines;
}

/** How many characters fit, at least one; found by doubling, then halving, so that long words cost no more than they must. */
function longestPrefix(characters: readonly string[], fits: (text: string) => boolean): number {
  const prefix = (count: number): boolean => fits(characters.slice(0, count).join(""));
  let high = 1;
  while (high < characters.length && prefix(high)) high = Math.min(characters.length, 2 * high);
  let low = 1;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (prefix(middle)) low = middle;
    else high = middle;
  }
  return low;
}
