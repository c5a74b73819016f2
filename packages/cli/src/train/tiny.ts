/** `rot-cli train` without arguments: the embedded model on the embedded problems, and what came of it as a table. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { lockRun, tinyTable, trainTiny, type TinyProgress, type TinyResults, type TinyValidation } from "@rot/rot/node";
import { type Device, UsageError } from "@rot/tensor";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { quoted } from "../flags.ts";
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
  /** Called after every step, and waited for. */
  readonly afterStep: () => Promise<void>;
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
  let begun = false;
  const results = await trainTiny({
    device: run.device,
    seed: run.seed,
    folder,
    base: run.shippedBase ? "shipped" : "train",
    ...(run.shippedBase && { arms: ["chain", "rot"] as const }),
    resume: run.resume,
    signal: run.signal,
    afterStep: run.afterStep,
    onPlan({ seconds, leftOut }) {
      shown.line(`about ${duration(seconds)} from here; everything is kept in ${folder}`);
      if (leftOut.length > 0) {
        shown.line(`this machine is too slow, or too busy, for all of it. Left out: ${leftOut.join("; ")}`);
        if (begun) shown.line(`rot-cli train --resume ${quoted(folder)} does what was left out on the way`);
      }
      begun = true;
    },
    onValidation(validation) {
      shown.validation(validation);
      if (json) output.out(`${JSON.stringify({ event: "validation", ...validation })}\n`);
    },
    onProgress(step) {
      shown.update(step);
      if (json) output.out(`${JSON.stringify({ event: "step", ...step })}\n`);
    },
    onWarning: shown.line,
  });
  shown.finish();
  const numbers = new TextEncoder().encode(`${JSON.stringify(results, null, 2)}\n`);
  await writeFileAtomically(join(folder, "results.json"), [numbers]);
  if (json) output.out(`${JSON.stringify({ event: "end", ...results })}\n`);
  else if (results.end === "finished") {
    output.out(`\n${tinyTable(results)}\n\nin ${duration(results.seconds)}\n\n${howToGoOn(folder)}\n`);
  }
  return results.end;
}

/** What may be done with a run that has ended. */
function howToGoOn(folder: string): string {
  const run = quoted(folder);
  const lines = [
    ["ask it yourself", `rot-cli generate --checkpoint ${run} --interactive --show-latents`],
    ["see every answer", `rot-cli evaluate --checkpoint ${run} --ablate all --output_format jsonl`],
    ["ask the base", 'rot-cli generate --model tiny --prompt "8-5+3+1+2*7"'],
    ["on a real model", "rot-cli train --model Qwen3-VL-2B-Instruct --dataset gsm8k/train.jsonl"],
  ];
  return [
    "To go on",
    ...lines.map(([what, command]) => `  ${what?.padEnd(17)} ${command}`),
    `This table as numbers: ${join(folder, "results.json")}; each step of a stage: ${join(folder, "STAGE", "metrics.jsonl")}`,
  ].join("\n");
}

/** One line of progress for each stage, with the time that all of them still take. */
function stages(output: Output) {
  let current: { readonly stage: string; readonly bar: Progress; isOver: boolean } | null = null;
  const finish = (): void => {
    current?.bar.finish();
    current = null;
  };
  const line = (text: string): void => output.err(`${output.terminal && current ? "\r\u001b[K" : ""}${text}\n`);
  return {
    line,
    update({ stage, step, steps, mayEndEarly, losses, secondsLeft }: TinyProgress): void {
      if (steps === 0) {
        finish();
        output.err(stage === "measuring" ? "measuring how fast this machine is …\n" : `${stage} …\n`);
        return;
      }
      if (current?.stage !== stage) {
        finish();
        current = { stage, bar: progress(output, { label: stage, unit: "steps", from: step - 1 }), isOver: false };
      }
      current.isOver = step === steps;
      const values = Object.entries(losses).map(([name, value]) => `${name} ${value.toPrecision(3)}`);
      const note = [...values, `${duration(secondsLeft)} for all that is left`].join(" · ");
      current.bar.update({ done: step, ...(!mayEndEarly && { total: steps }), note });
    },
    validation({ stage, step, accuracy }: TinyValidation): void {
      if (current?.isOver) finish();
      line(`${stage}, after step ${step}: ${(100 * accuracy).toFixed(1)} % of the validation problems are right`);
    },
    finish,
  };
}
