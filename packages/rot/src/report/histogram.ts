/** Histograms as SVG. */
import { html, type Markup } from "./html.ts";

/** Where the bars of a histogram stand. */
export interface Bins {
  /** Where the first bin begins. */
  readonly start: number;
  /** How wide each is. */
  readonly width: number;
  /** How many values lie in each: from its start to, without, the next one's. */
  readonly counts: readonly number[];
  /** Values beyond the last bin, so that a few cannot flatten the rest. */
  readonly beyond: number;
}

const MOST_BINS = 40;

/**
 * Sorts whole numbers into at most 40 bins of a round width. Bins reach to the largest value, or where that is more than
 * twice the value that 99 % stay below, to there.
 *
 * @param values  whole numbers, at least one
 */
export function binsOf(values: readonly number[]): Bins {
  const sorted = Float64Array.from(values).sort();
  const [least, most] = [sorted[0]!, sorted.at(-1)!];
  const common = sorted[Math.ceil(0.99 * (sorted.length - 1))]!;
  const last = most - least > 2 * (common - least) && common > least ? common : most;
  const width = roundStep((last - least + 1) / MOST_BINS);
  const start = Math.floor(least / width) * width;
  const counts = Array.from({ length: Math.floor((last - start) / width) + 1 }, () => 0);
  let beyond = 0;
  for (const value of sorted) {
    const bin = Math.floor((value - start) / width);
    if (bin < counts.length) counts[bin]!++;
    else beyond++;
  }
  return { start, width, counts, beyond };
}

/** The next of 1, 2, 5, 10, 20, … that is not smaller; whole, since lengths are. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return ([1, 2, 5].find((step) => step * power >= least) ?? 10) * power;
}

/** A line across the bars, such as the median. */
export interface Mark {
  readonly label: string;
  readonly value: number;
}

const [WIDTH, HEIGHT] = [560, 190];
const plot = { left: 44, right: 548, top: 26, bottom: 160 };

/**
 * A histogram. Its colors are the page's: classes `bar`, `axis`, `mark`.
 *
 * @param unit  what is counted on the x axis, in the plural
 */
export function histogram(values: readonly number[], unit: string, marks: readonly Mark[] = []): Markup {
  const { start, width, counts, beyond } = binsOf(values);
  const most = Math.max(...counts);
  const end = start + counts.length * width;
  const x = (value: number): number => plot.left + ((value - start) / (end - start)) * (plot.right - plot.left);
  const y = (count: number): number => plot.bottom - (count / most) * (plot.bottom - plot.top);
  const bars = counts.map((count, i) => {
    if (count === 0) return "";
    const [from, to] = [start + i * width, start + (i + 1) * width - 1];
    const range = from === to ? from : `${from}–${to}`;
    return html`<rect
      class="bar"
      x="${fixed(x(from))}"
      y="${fixed(y(count))}"
      width="${fixed(x(from + width) - x(from) - 1)}"
      height="${fixed(plot.bottom - y(count))}"
      ><title>${range} ${unit}: ${count} rows</title></rect
    >`;
  });
  const step = roundStep((end - start) / 8);
  const ticks: Markup[] = [];
  for (let value = Math.ceil(start / step) * step; value <= end; value += step) {
    ticks.push(
      html`<text class="axis" x="${fixed(x(value))}" y="${plot.bottom + 14}" text-anchor="middle"
        >${value.toLocaleString("en")}</text
      >`,
    );
  }
  const lines = marks
    .filter(({ value }) => value >= start && value <= end)
    .map(({ label, value }, i) => {
      const [at, row] = [fixed(x(value)), plot.top - 14 + 10 * (i % 2)];
      const left = x(value) > (plot.left + plot.right) / 2;
      return html`<line class="mark" x1="${at}" x2="${at}" y1="${row - 7}" y2="${plot.bottom}" /><text
          class="mark"
          x="${fixed(x(value) + (left ? -4 : 4))}"
          y="${row}"
          text-anchor="${left ? "end" : "start"}"
          >${label}</text
        >`;
    });
  const note = beyond === 0 ? "" : ` · ${beyond.toLocaleString("en")} rows beyond are not drawn`;
  return html`<svg class="histogram" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="histogram of ${unit}">
    <text class="axis" x="${plot.left - 6}" y="${plot.top + 4}" text-anchor="end">${most.toLocaleString("en")}</text>
    <text class="axis" x="${plot.left - 6}" y="${plot.bottom}" text-anchor="end">0</text>
    <line class="axis" x1="${plot.left}" x2="${plot.right}" y1="${plot.bottom}" y2="${plot.bottom}" />
    ${bars}${lines}${ticks}
    <text class="axis" x="${plot.right}" y="${HEIGHT - 2}" text-anchor="end">${unit}${note}</text>
  </svg>`;
}

const fixed = (value: number): string => value.toFixed(1);
