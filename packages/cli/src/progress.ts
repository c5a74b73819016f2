/** Progress of long work on stderr: one line that is redrawn on a terminal, a plain line now and then anywhere else. */
import type { Output } from "./program.ts";

/** How far the work is. */
export interface Step {
  readonly done: number;
  /** Where it is not known in advance, no share and no ETA is shown. */
  readonly total?: number;
  /** What else is worth a look, such as a loss. */
  readonly note?: string;
}

/** A report of progress. */
export interface Progress {
  /** Says how far the work is; draws only as often as a reader can follow. */
  update(step: Step): void;
  /** Draws the last step and ends the line. */
  finish(): void;
}

/** What a report calls its work. */
export interface ProgressOptions {
  /** What is done: "convert". */
  readonly label: string;
  /** What is counted, in the plural: "rows". Of "bytes" it prints MiB. */
  readonly unit: string;
  /** What was done before, of work that is gone on with: it says nothing about how fast it is. */
  readonly from?: number;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
}

const REDRAW_MILLISECONDS = 100;
const LINE_MILLISECONDS = 10_000;
/** Rates are averaged over about so much time: an ETA should neither jump nor lag. */
const MEMORY_MILLISECONDS = 15_000;

/**
 * Starts a report.
 *
 * @param output  where it is drawn; without a terminal there is no carriage return and no escape code
 */
export function progress(
  output: Output,
  { label, unit, from = 0, now = performance.now.bind(performance) }: ProgressOptions,
): Progress {
  const begun = now();
  let latest: Step = { done: from };
  let shown: Step | null = null;
  let drawn = output.terminal ? -Infinity : begun;
  let rate = 0;
  let weight = 0;
  let before = { done: from, at: begun };

  const draw = (): void => {
    drawn = now();
    shown = latest;
    const line = `${label}: ${describe(latest, unit, rate, drawn - begun)}`;
    output.err(output.terminal ? `\r${line}\u001b[K` : `${line}\n`);
  };

  return {
    update(step) {
      latest = step;
      const at = now();
      if (at - before.at >= 50 && step.done > before.done) {
        const seconds = (at - before.at) / 1000;
        const keep = Math.exp((before.at - at) / MEMORY_MILLISECONDS);
        rate = (rate * weight * keep + ((step.done - before.done) / seconds) * (1 - keep)) / (weight * keep + 1 - keep);
        weight = weight * keep + 1 - keep;
        before = { done: step.done, at };
      }
      if (at - drawn >= (output.terminal ? REDRAW_MILLISECONDS : LINE_MILLISECONDS)) draw();
    },
    finish() {
      const seconds = (now() - begun) / 1000;
      if (seconds > 0) rate = (latest.done - from) / seconds;
      // A terminal's line is drawn over; elsewhere it would be there twice.
      if (output.terminal || shown !== latest) draw();
      if (output.terminal) output.err("\n");
    },
  };
}

/**
 * Runs work with its progress shown.
 *
 * @param work  calls back with how far it is
 */
export async function withProgress<T>(
  output: Output,
  options: ProgressOptions,
  work: (onProgress: (step: Step) => void) => Promise<T>,
): Promise<T> {
  const report = progress(output, options);
  const result = await work((step) => report.update(step));
  report.finish();
  return result;
}

function describe({ done, total, note }: Step, unit: string, rate: number, elapsed: number): string {
  const parts = [total === undefined ? count(done, unit) : `${count(done, unit)} of ${count(total, unit)}`];
  if (total) parts.push(`${Math.floor((100 * done) / total)} %`);
  if (rate > 0) parts.push(`${count(rate, unit)}/s`);
  if (total !== undefined && done >= total) parts.push(`in ${duration(elapsed / 1000)}`);
  else if (total !== undefined && rate > 0) parts.push(`${duration((total - done) / rate)} left`);
  if (note) parts.push(note);
  return parts.join(" · ");
}

function count(n: number, unit: string): string {
  if (unit === "bytes") return `${(n / 2 ** 20).toFixed(n < 2 ** 30 ? 1 : 0)} MiB`;
  const name = n === 1 ? unit.replace(/s$/, "") : unit;
  return `${n >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString("en") : n.toPrecision(2)} ${name}`;
}

/** Seconds as people say them: `42 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 ? seconds.toFixed(1) : whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
