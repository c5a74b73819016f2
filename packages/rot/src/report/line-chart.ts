/** Curves as SVG. */
import { html, type Markup } from "./html.ts";
import { curveColors } from "./page.ts";
import type { Bucket } from "./run/thinned.ts";

/** A curve and what it is called. */
export interface Curve {
  readonly name: string;
  readonly points: readonly Bucket[];
  /** Whether each point is marked: for few of them. */
  readonly dots?: boolean;
}

const [WIDTH, HEIGHT] = [560, 212];
const plot = { left: 58, right: 548, top: 12, bottom: 180 };

/** Curves of positive values that span more than this are drawn on a logarithmic axis. */
const WIDE = 30;
/**
 * A chart of some curves over steps, with a band from the smallest to the largest value where a point stands for several.
 * Its colors are the page's, {@link curveColors}.
 *
 * @param unit  what is on the y axis
 */
export function lineChart(unit: string, curves: readonly Curve[]): Markup {
  const all = curves.flatMap(({ points }) => points);
  if (all.length === 0) return html`<p class="soft">nothing to draw</p>`;
  const [left, right] = rangeOf(all.map(({ x }) => x));
  const lows = all.map(({ least }) => least);
  const highs = all.map(({ most }) => most);
  const [least, most] = [lows.reduce((a, b) => Math.min(a, b)), highs.reduce((a, b) => Math.max(a, b))];
  const logarithmic = least > 0 && most / least > WIDE;
  const of = (value: number): number => (logarithmic ? Math.log10(value) : value);
  const ticks = logarithmic ? powers(least, most) : roundTicks(least, most);
  const [bottom, top] = rangeOf([of(least), of(most), ...ticks.map(of)]);
  const x = (value: number): string =>
    (plot.left + ((value - left) / (right - left)) * (plot.right - plot.left)).toFixed(1);
  const y = (value: number): string =>
    (plot.bottom - ((of(value) - bottom) / (top - bottom)) * (plot.bottom - plot.top)).toFixed(1);
  const steps = roundTicks(left, right).filter((tick) => Number.isInteger(tick) && tick >= left && tick <= right);
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${unit} by step">
      ${ticks.map(
        (tick) =>
          html`<line class="axis" x1="${plot.left}" x2="${plot.right}" y1="${y(tick)}" y2="${y(tick)}" />
            <text x="${plot.left - 6}" y="${Number(y(tick)) + 4}" text-anchor="end">${short(tick)}</text>`,
      )}
      ${steps.map(
        (tick) =>
          html`<text x="${x(tick)}" y="${plot.bottom + 16}" text-anchor="middle">${tick.toLocaleString("en")}</text>`,
      )}
      ${curves.map(({ points, dots }, i) => curveOf(points, colorOf(i), dots ?? false, x, y))}
      <text x="${plot.right}" y="${plot.bottom + 28}" text-anchor="end">step${logarithmic ? " · log" : ""}</text>
    </svg>
    <div class="legend">${curves.map(({ name }, i) => html`<span class="${colorOf(i)}">● ${name}</span>`)}</div>`;
}

const colorOf = (curve: number): string => `curve-${curve % curveColors.length}`;

type Place = (value: number) => string;

function curveOf(points: readonly Bucket[], name: string, dots: boolean, x: Place, y: Place): Markup[] {
  const line = points.map((point) => `${x(point.x)},${y(point.mean)}`).join(" ");
  const band = [
    ...points.map((point) => `${x(point.x)},${y(point.most)}`),
    ...points.toReversed().map((point) => `${x(point.x)},${y(point.least)}`),
  ].join(" ");
  return [
    ...(points.some(({ count }) => count > 1) ? [html`<polygon class="band ${name}" points="${band}" />`] : []),
    html`<polyline class="${name}" points="${line}" />`,
    ...(dots || points.length === 1
      ? points.map((point) => html`<circle class="${name}" cx="${x(point.x)}" cy="${y(point.mean)}" r="3" />`)
      : []),
  ];
}

/** The ends of an axis; never the same. */
function rangeOf(values: readonly number[]): [number, number] {
  const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const room = least === most ? Math.max(Math.abs(least) / 10, 1e-12) : 0;
  return [least - room, most + room];
}

/** About five round numbers. */
function roundTicks(least: number, most: number): number[] {
  // Below 1e-300 a quarter of the span has no power of ten.
  const span = Math.max(most - least || Math.abs(most) || 1, 1e-300);
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = ([1, 2, 5].find((each) => each * power * 5 >= span) ?? 10) * power;
  const first = Math.floor(least / step);
  return Array.from({ length: Math.ceil(most / step) - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}

/** Powers of ten around the values, or few of them. */
function powers(least: number, most: number): number[] {
  const [from, to] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const every = Math.ceil((to - from) / 6);
  const all = Array.from({ length: Math.floor((to - from) / every) + 1 }, (_, i) => 10 ** (from + i * every));
  // Beyond the numbers that there are, a power is 0 or infinite.
  return all.filter((power) => power > 0 && power < Infinity);
}

function short(value: number): string {
  const rounded = Number(value.toPrecision(3));
  return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? rounded.toExponential() : String(rounded);
}
