/** `rot-cli train` without arguments: the embedded model on the embedded problems, and what came of it as a table. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { lockRun, tinyTable, trainTiny, type TinyProgress, type TinyResults } from "@rot/rot/node";
import { type Device, UsageError } from "@rot/tensor";
import { duration, type Progress, progress } from "../progress.ts";
import type { Output } from "../program.ts";

/** What the command gives. */
export interface TinyRun {
  readonly output: Output;
  readonly json: boolean;
  readonly folder: string;
  readonly seed: number;
  /** Take the base that comes with the package, and train stages 1 and 2 alone. */
  readonly shippedBase: boolean;
  readonly resume: boolean;
  readonly signal: AbortSignal;
  readonly device: Device;
}

/** Settings that mean something to the embedded model. */
const settings = new Set(["model", "data.dataset", "seed", "output"]);

/** @throws {UsageError} for a setting that the embedded model does not read */
export function checkTinySettings(given: readonly { readonly path: string; readonly where: string }[]): void {
  const idle = given.filter(({ path }) => !settings.has(path)).map(({ where }) => where);
  if (idle.length === 0) return;
  throw new UsageError(
    `${idle.join(", ")}: the embedded model has a recipe of its own and reads only --seed, --output and --resume; for your own training give --model FOLDER and --dataset FILE`,
  );
}

/** Trains, compares and prints. Gives how it ended. */
export async function runTiny(run: TinyRun): Promise<TinyResults["end"]> {
  const { output, json, folder } = run;
  await mkdir(folder, { recursive: true });
  await using _lock = await lockRun(folder);
  const shown = stages(output);
  const results = await trainTiny({
    device: run.device,
    seed: run.seed,
    folder,
    base: run.shippedBase ? "shipped" : "train",
    ...(run.shippedBase && { arms: ["chain", "rot"] as const }),
    resume: run.resume,
    signal: run.signal,
    onPlan({ seconds, leftOut }) {
      shown.line(`everything is expected to take ${duration(seconds)}; runs in ${folder}`);
      if (leftOut.length > 0) shown.line(`left out, since this adapter is slow: ${leftOut.join(", ")}`);
    },
    onProgress(step) {
      shown.update(step);
      if (json) output.out(`${JSON.stringify({ event: "step", ...step })}\n`);
    },
    onWarning: shown.line,
  });
  shown.finish();
  await writeFile(join(folder, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
  if (json) output.out(`${JSON.stringify({ event: "end", ...results })}\n`);
  else if (results.end === "finished") output.out(`\n${tinyTable(results)}\n\nin ${duration(results.seconds)}\n`);
  return results.end;
}

/** One line of progress for each stage, with the time that all of them still take. */
function stages(output: Output) {
  let current: { readonly stage: string; readonly bar: Progress } | null = null;
  const finish = (): void => {
    current?.bar.finish();
    current = null;
  };
  return {
    line: (text: string): void => output.err(`${output.terminal && current ? "\r\u001b[K" : ""}${text}\n`),
    update({ stage, step, steps, losses, secondsLeft }: TinyProgress): void {
      if (steps === 0) {
        finish();
        if (stage !== "measuring") output.err(`${stage} …\n`);
        return;
      }
      if (current?.stage !== stage) {
        finish();
        current = { stage, bar: progress(output, { label: stage, unit: "steps" }) };
      }
      const values = Object.entries(losses).map(([name, value]) => `${name} ${value.toPrecision(3)}`);
      const note = [...values, `${duration(secondsLeft)} for all that is left`].join(" · ");
      current.bar.update({ done: step, total: steps, note });
    },
    finish,
  };
}
