/**
 * Learning rates over time. A schedule gives the factor of the learning rate at a step; steps count from 0, as the
 * schedulers of transformers do, so that a warm-up from 0 makes a first step with learning rate 0:
 *
 *     optimizer.lr = 2e-5 * schedule(step);
 */
import { UsageError } from "../errors.ts";

/** The factor of the learning rate at a step, from 0. */
export type Schedule = (step: number) => number;

/** What a schedule with a warm-up takes. */
export interface Warmup {
  /** Steps until the factor is 1; 0 begins there. */
  readonly warmup: number;
}

/** What a schedule that ends takes besides. */
export interface Ending extends Warmup {
  /** Steps of the whole training, warm-up included. */
  readonly total: number;
}

function checkSteps(who: string, steps: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(steps)) {
    if (!(count >= 0)) throw new UsageError(`${who}: ${name} is ${count}, not a number of steps`);
  }
}

/** How far step is on its way from the end of the warm-up to the end of the training; past 1 after that. */
const progress = (step: number, { warmup, total }: Ending): number => (step - warmup) / Math.max(1, total - warmup);

/** 1 at every step. */
export const constant: Schedule = () => 1;

/**
 * Up from 0 in a straight line, then 1.
 *
 * @see transformers.get_constant_schedule_with_warmup
 */
export function constantWithWarmup({ warmup }: Warmup): Schedule {
  checkSteps("constantWithWarmup", { warmup });
  return (step) => (step < warmup ? step / Math.max(1, warmup) : 1);
}

/**
 * Up from 0 in a straight line, then down to 0 in another.
 *
 * @see transformers.get_linear_schedule_with_warmup
 */
export function linearWithWarmup({ warmup, total }: Ending): Schedule {
  checkSteps("linearWithWarmup", { warmup, total });
  return (step) =>
    step < warmup ? step / Math.max(1, warmup) : Math.max(0, (total - step) / Math.max(1, total - warmup));
}

/**
 * Up from 0 in a straight line, then down along a cosine.
 *
 * @param options  with `cycles`, how many waves of the cosine fit; 0.5 by default, which ends at 0
 * @see transformers.get_cosine_schedule_with_warmup
 */
export function cosineWithWarmup({ warmup, total, cycles = 0.5 }: Ending & { readonly cycles?: number }): Schedule {
  checkSteps("cosineWithWarmup", { warmup, total });
  return (step) =>
    step < warmup
      ? step / Math.max(1, warmup)
      : Math.max(0, 0.5 * (1 + Math.cos(2 * Math.PI * cycles * progress(step, { warmup, total }))));
}

/**
 * Up from `least`, then 1: ln(step + 1) / ln(warmup) of the way, or step / warmup with `shape: "linear"`.
 *
 * @param options  with `least`, the factor at step 0: DeepSpeed's `warmup_min_lr` / `warmup_max_lr`, 0 by default
 * @see WarmupLR in deepspeed/runtime/lr_schedules.py
 */
export function warmupLr({
  warmup,
  shape = "log",
  least = 0,
}: Warmup & { readonly shape?: "log" | "linear"; readonly least?: number }): Schedule {
  checkSteps("warmupLr", { warmup });
  const share: Schedule =
    shape === "log" ? (step) => Math.log(step + 1) / Math.log(Math.max(2, warmup)) : (step) => step / warmup;
  return (step) => (step < warmup ? least + (1 - least) * share(step) : 1);
}
