/** What training shows while it runs. */
import type { StepReport } from "@rot/rot";
import { type Progress, progress } from "../progress.ts";
import type { Output } from "../program.ts";

/** Draws stages, steps and validations on stderr. */
export interface TrainingProgress {
  note(text: string): void;
  stage(name: string, folder: string, steps: number, from: number): void;
  step(report: StepReport): void;
  validation(step: number, results: Readonly<Record<string, number>>): void;
  finish(): void;
}

/** Steps whose speed is averaged. */
const REMEMBERED = 20;

/** Starts. */
export function trainingProgress(output: Output): TrainingProgress {
  let current: { readonly bar: Progress; readonly recent: StepReport[]; found: string } | null = null;
  const finish = (): void => {
    current?.bar.finish();
    current = null;
  };
  const line = (text: string): void => output.err(`${output.terminal && current ? "\r\u001b[K" : ""}${text}\n`);
  return {
    note: line,
    stage(name, folder, steps, from) {
      finish();
      line(
        `${name}: ${steps} ${steps === 1 ? "step" : "steps"}${from > 0 ? `, going on after step ${from}` : ""}, in ${folder}`,
      );
      current = { bar: progress(output, { label: name, unit: "steps", from }), recent: [], found: "" };
    },
    step(report) {
      if (!current) return;
      current.recent.push(report);
      if (current.recent.length > REMEMBERED) current.recent.shift();
      current.bar.update({
        done: report.step,
        total: report.steps,
        note: describe(report, current.recent) + current.found,
      });
    },
    validation(step, results) {
      line(`validation after step ${step}: ${numbers(results)}`);
      const found = Object.entries(results).filter(([name]) => name === "validation" || name === "accuracy");
      if (current) current.found = ` · ${numbers(Object.fromEntries(found))}`;
    },
    finish,
  };
}

/** Numbers by name, in one line. */
export const numbers = (values: Readonly<Record<string, number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${name === "accuracy" ? `${(100 * value).toFixed(1)} %` : value.toPrecision(4)}`)
    .join(" · ");

function describe(report: StepReport, recent: readonly StepReport[]): string {
  const seconds = recent.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
  const rates = ["tokens", "latents"].flatMap((name) => {
    const count = recent.reduce((sum, { counts }) => sum + (counts[name] ?? 0), 0);
    return count > 0 && seconds > 0 ? [`${Math.round(count / seconds)} ${name}/s`] : [];
  });
  const memory = `${(report.deviceBytes / 2 ** 20).toFixed(0)} MiB`;
  const rest = [
    `lr ${report.learningRate.toPrecision(2)}`,
    `|g| ${report.gradientNorm.toPrecision(3)}`,
    ...rates,
    memory,
  ];
  return `${numbers(report.losses)} · ${rest.join(" · ")}`;
}
