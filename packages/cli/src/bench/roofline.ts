/** The roofline: what each op reaches, and what the device could at most, by the operations done for each byte moved. */
import type { Line, Report } from "./report.ts";

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [1000, 560, 70, 46, 370, 56];
const [PLOT_WIDTH, PLOT_HEIGHT] = [WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM];
/** Names that fit beside the plot, and their letters. */
const [MOST_NAMES, MOST_LETTERS] = [27, 56];

/** A logarithmic axis from one power of ten to another. */
interface Axis {
  readonly from: number;
  readonly to: number;
}

const axisOf = (values: readonly number[]): Axis => ({
  from: Math.floor(Math.log10(Math.min(...values))),
  to: Math.ceil(Math.log10(Math.max(...values)) + 1e-9),
});

const powers = ({ from, to }: Axis): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const label = (power: number): string =>
  Math.abs(power) <= 3 ? String(Number((10 ** power).toFixed(3))) : `1e${power}`;

/** A point: operations for each byte, and 10⁹ operations a second. */
interface Dot {
  readonly line: Line;
  readonly intensity: number;
  readonly gigaflops: number;
}

function dotsOf(lines: readonly Line[], by: Line["by"]): Dot[] {
  return lines.flatMap((line): Dot[] => {
    const { gigaflops, gigabytes } = line;
    if (line.by !== by || !gigaflops || !gigabytes) return [];
    return [{ line, gigaflops, intensity: gigaflops / gigabytes }];
  });
}

/** The dots that get a number, one a benchmark: what peers are measured against, or else the fastest. */
function namedOf(dots: readonly Dot[]): Dot[] {
  const named = new Map<string, Dot>();
  for (const dot of dots) {
    const known = named.get(dot.line.benchmark);
    const isBetter = dot.line.comparable || dot.gigaflops > (known?.gigaflops ?? 0);
    if (!known?.line.comparable && isBetter) named.set(dot.line.benchmark, dot);
  }
  return [...named.values()].slice(0, MOST_NAMES);
}

/** A place in the picture. */
interface Place {
  readonly left: number;
  readonly top: number;
}

/**
 * Where the numbers of dots stand: each at the first place around its dot where it covers nothing.
 *
 * @param dots      that get the numbers from 1
 * @param obstacles all dots
 */
function placed(dots: readonly Place[], obstacles: readonly Place[]): Place[] {
  const [height, gap, far] = [11, 6, 24];
  const taken = obstacles.map(({ left, top }) => ({ left: left - 4, top: top + 4, width: 8 }));
  return dots.map(({ left, top }, i) => {
    const width = 7 * String(i + 1).length;
    const places = [0, -12, 12, -24, 24, -36, 36, -48, 48].flatMap((down) =>
      [gap, -gap - width, far, -far - width].map((x) => ({ left: left + x, top: top + 4 + down, width })),
    );
    const isFree = (one: Place): boolean =>
      taken.every(
        (other) =>
          one.left >= other.left + other.width ||
          other.left >= one.left + width ||
          Math.abs(one.top - other.top) >= height,
      );
    const place = places.find(isFree) ?? { left: left + gap, top, width };
    taken.push(place);
    return place;
  });
}

/** The picture as SVG. Ours are filled dots, one of each benchmark with its number, their references hollow ones. */
export function roofline({ adapter, date, peaks, lines }: Report): string {
  const [ours, references] = [dotsOf(lines, "ours"), dotsOf(lines, "reference")];
  const all = [...ours, ...references];
  const ridge = peaks.gigaflops / peaks.gigabytes;
  const xs = axisOf([ridge, 0.1, ...all.map(({ intensity }) => intensity)]);
  const ys = axisOf([peaks.gigaflops, ...all.map(({ gigaflops }) => gigaflops)]);
  const x = (value: number): number => LEFT + (PLOT_WIDTH * (Math.log10(value) - xs.from)) / (xs.to - xs.from);
  const y = (value: number): number =>
    TOP + PLOT_HEIGHT - (PLOT_HEIGHT * (Math.log10(value) - ys.from)) / (ys.to - ys.from);
  const at = (value: number): string => value.toFixed(1);
  const text = (left: number, top: number, content: string, more = ""): string =>
    `<text x="${at(left)}" y="${at(top)}"${more}>${escaped(content)}</text>`;
  const middle = ' text-anchor="middle"';

  const grid = [
    ...powers(xs).flatMap((power) => [
      `<path class="grid" d="M${at(x(10 ** power))} ${TOP}V${TOP + PLOT_HEIGHT}"/>`,
      text(x(10 ** power), TOP + PLOT_HEIGHT + 18, label(power), middle),
    ]),
    ...powers(ys).flatMap((power) => [
      `<path class="grid" d="M${LEFT} ${at(y(10 ** power))}H${LEFT + PLOT_WIDTH}"/>`,
      text(LEFT - 8, y(10 ** power) + 4, label(power), ' text-anchor="end"'),
    ]),
  ];
  const begin = Math.max(10 ** xs.from, 10 ** ys.from / peaks.gigabytes);
  const roof = `<path class="roof" d="M${at(x(begin))} ${at(y(begin * peaks.gigabytes))}L${at(x(ridge))} ${at(y(peaks.gigaflops))}H${LEFT + PLOT_WIDTH}"/>`;
  const dot =
    (className: string) =>
    ({ line, intensity, gigaflops }: Dot): string =>
      `<circle class="${className}" cx="${at(x(intensity))}" cy="${at(y(gigaflops))}" r="4"><title>${escaped(`${line.benchmark}, ${line.candidate}: ${gigaflops.toFixed(1)} GFLOP/s, ${line.milliseconds.toFixed(3)} ms`)}</title></circle>`;
  const named = namedOf(ours);
  const beside = WIDTH - RIGHT + 24;
  const names = named.map(({ line }, i) => {
    const full = `${i + 1}  ${line.benchmark}, ${line.candidate}`;
    return text(beside, TOP + 10 + 16 * i, full.length > MOST_LETTERS ? `${full.slice(0, MOST_LETTERS - 1)}…` : full);
  });
  const placeOf = ({ intensity, gigaflops }: Dot): Place => ({ left: x(intensity), top: y(gigaflops) });
  const numbers = placed(named.map(placeOf), all.map(placeOf)).map(({ left, top }, i) =>
    text(left, top, String(i + 1)),
  );

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">
<style>.grid{stroke:#ddd}.roof{fill:none;stroke:#c33;stroke-width:2}.ours{fill:#247}.reference{fill:#fff;stroke:#999}</style>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${text(LEFT, 24, `${adapter}, ${date.slice(0, 10)}: at most ${peaks.gigaflops.toFixed(1)} GFLOP/s and ${peaks.gigabytes.toFixed(1)} GB/s, measured`, ' font-size="14"')}
${grid.join("\n")}
${text(LEFT + PLOT_WIDTH / 2, HEIGHT - 14, "operations for each byte that must be moved", middle)}
${text(0, 0, "GFLOP/s", ` transform="translate(20 ${TOP + PLOT_HEIGHT / 2}) rotate(-90)"${middle}`)}
${roof}
${references.map(dot("reference")).join("\n")}
${ours.map(dot("ours")).join("\n")}
${numbers.join("\n")}
${names.join("\n")}
${text(beside, HEIGHT - 14, "filled: ours; hollow: the plain ways beside them")}
</svg>
`;
}
