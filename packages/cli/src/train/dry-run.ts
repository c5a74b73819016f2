/** `rot-cli train --dry-run`: what a run would do and whether it fits, without a step of it. */
import type { RunConfig } from "@rot/rot";
import { type Lengths, type MemoryEstimate, planRun, type RunPlan, type StagePlan } from "@rot/rot/node";
import { openRehearsal } from "@rot/tensor";
import { ExitError, exitCodes } from "../exit-codes.ts";
import type { Output } from "../program.ts";

/** What the command gives. */
export interface DryRun {
  readonly output: Output;
  readonly json: boolean;
  readonly folder: string;
  readonly resume: boolean | string;
  readonly adapter: string | undefined;
}

/** Whether a run fits, as far as one can know. */
export interface Verdict {
  /** Null where the adapter does not say how much memory it has. */
  readonly fits: boolean | null;
  /** Bytes that are free for the adapter, where that is known. */
  readonly free: number | null;
  readonly why: string;
}

/** What to do about a device without room. */
export const lessMemory =
  "Lower --batch_size and raise training.gradient_accumulation_steps as much (the gradients stay the same), or --set training.recompute=true, or lower data.max_length";

/**
 * Plans, prints, and fails if the run does not fit.
 *
 * @throws {ExitError} with the code of a device out of memory when it does not fit
 */
export async function dryRun(config: RunConfig, { output, json, folder, resume, adapter }: DryRun): Promise<void> {
  let said = false;
  const notice = (line: string): void => {
    if (!said) output.err(`${line}\n`);
    said = true;
  };
  const plan = await planRun(config, {
    openRehearsal: () => openRehearsal({ adapter, notice }),
    output: folder,
    resume,
    events: { note: (text) => output.err(`${text}\n`) },
  });
  const verdict = judge(plan, plan.adapter.kind === "hardware" ? null : process.availableMemory());
  output.out(json ? `${JSON.stringify({ ...plan, verdict }, null, 2)}\n` : planText(plan, verdict));
  if (verdict.fits === false) {
    throw new ExitError(`the run does not fit: ${verdict.why}. ${lessMemory}`, exitCodes.outOfMemory);
  }
}

/**
 * Whether a plan fits.
 *
 * @param free  bytes that the adapter can have: of a software adapter the machine's own; null where nobody says
 */
export function judge({ stages, adapter }: RunPlan, free: number | null): Verdict {
  const refused = stages.find((stage) => stage.refused !== null);
  if (refused) return { fits: false, free, why: `${refused.stage}: ${refused.refused}` };
  const needed = Math.max(...stages.map(({ memory }) => (memory as MemoryEstimate).allocated));
  if (free === null) {
    return {
      fits: null,
      free,
      why: `${mega(needed)} are needed; WebGPU does not say how much memory ${adapter.name} has`,
    };
  }
  const why = `${mega(needed)} are needed, and ${mega(free)} of this machine's memory are free`;
  return { fits: needed <= free, free, why };
}

/** A plan for people to read. */
export function planText({ output, model, dataset, rows, adapter, stages }: RunPlan, verdict: Verdict): string {
  const { train, validation, unreadable } = rows;
  const bad = unreadable.length > 0 ? `; ${whole(unreadable.length)} cannot be read` : "";
  const head = table([
    ["output", `${output} (nothing is written to it now)`],
    ["model", model],
    ["dataset", `${dataset}: ${whole(train)} rows to train on, ${whole(validation)} to validate on${bad}`],
    ["adapter", `${adapter.name}, ${adapter.kind}; a buffer has ${mega(adapter.maxBufferSize)} at most`],
  ]);
  const { fits, why } = verdict;
  const sentence = fits === null ? why : fits ? `It fits: ${why}` : `It does not fit: ${why}`;
  return `${[head, ...stages.map(stageText), sentence].join("\n\n")}\n`;
}

function stageText(plan: StagePlan): string {
  const { stage, folder, steps, done, warmup, batch, examples, tokens, latents, learns, frozen, checkpoints } = plan;
  const { kept, tooLong, maxLength } = examples;
  const named = tooLong.slice(0, 5).map((id) => JSON.stringify(id));
  const left =
    tooLong.length > 0
      ? `; ${whole(tooLong.length)} left out, longer than data.max_length (${maxLength}): ${named.join(", ")}${tooLong.length > 5 ? ", …" : ""}`
      : "";
  const perStep = `${batch.size * batch.accumulation} examples each${batch.accumulation > 1 ? ` (${batch.accumulation} batches of ${batch.size})` : ""}`;
  const rows: Row[] = [
    ["examples", `${whole(kept)}${left}`],
    ["tokens", lengths(tokens)],
    ...(latents.longest > 0 ? [["latents", lengths(latents)] as Row] : []),
    [
      "steps",
      `${whole(steps)} of ${perStep}, ${whole(warmup)} of warm-up${done > 0 ? `; ${whole(done)} are done` : ""}`,
    ],
    ["learns", `${whole(learns.tensors)} tensors, ${whole(learns.numbers)} numbers`],
    ["frozen", `${whole(frozen.tensors)} tensors, ${whole(frozen.numbers)} numbers`],
    ["checkpoints", `${checkpoints.count} of ${mega(checkpoints.one)} at most; ${mega(checkpoints.free)} are free`],
    ["memory", plan.memory ? memoryText(plan.memory) : `none is enough: ${plan.refused}`],
  ];
  return `${stage}, in ${folder}\n${indented(table(rows))}${plan.memory ? `\n${indented(indented(classes(plan.memory)))}` : ""}`;
}

const memoryText = ({ peak, during, training, allocated }: MemoryEstimate): string =>
  `${mega(peak)} at the peak${during === "training" ? "" : `, while ${during}`}; ${mega(allocated)} asked of the adapter, with what is kept for reuse. A step at its peak, ${mega(training)}:`;

const classes = ({ frozen, parameters, optimizer, gradients, activations, workspace }: MemoryEstimate): string =>
  table([
    ...Object.entries(frozen).map(([dtype, bytes]): Row => [`frozen weights in ${dtype}`, mega(bytes)]),
    ["what learns", mega(parameters)],
    ["optimizer", mega(optimizer)],
    ["gradients", mega(gradients)],
    ["activations kept for the way back", mega(activations)],
    ["workspace", mega(workspace)],
  ]);

type Row = readonly [name: string, value: string];

function table(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

const indented = (text: string): string => text.replaceAll(/^/gm, "  ");
const whole = (n: number): string => n.toLocaleString("en");
const lengths = ({ longest, mean }: Lengths): string =>
  `${whole(longest)} in the longest, ${mean.toFixed(1)} in the mean`;
const mega = (bytes: number): string => `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
