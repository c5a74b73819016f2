/** The optimizer of a stage: AdamW over groups of parameters, whose rates follow one schedule. */
import { AdamW, type Tensor } from "@rot/tensor";
import type { ParameterGroup, TrainingTask } from "./task.ts";

/** An optimizer and its schedule. */
export interface ScheduledOptimizer extends Disposable {
  readonly adamw: AdamW;
  /** Sets the rate of every group for a step, and gives that of parameters without a group. */
  setRate(step: number): number;
}

/** Makes the optimizer of a task. Its state is made at the first step. */
export function createOptimizer({ parameters, optimizer }: TrainingTask): ScheduledOptimizer {
  const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01, lr, schedule, groups = [] } = optimizer;
  // Neighbours of one group stand together, so that gradients keep the order of the parameters.
  const runs: { readonly group: ParameterGroup | undefined; readonly members: Tensor[] }[] = [];
  for (const [name, parameter] of parameters) {
    const group = groups.find(({ names }) => names.has(name));
    const last = runs.at(-1);
    if (last && last.group === group) last.members.push(parameter);
    else runs.push({ group, members: [parameter] });
  }
  const adamw = new AdamW(
    runs.map(({ group, members }) => ({
      parameters: members,
      lr: group?.lr ?? lr,
      weightDecay: group?.weightDecay ?? weightDecay,
    })),
    { betas, eps },
  );
  const peaks = adamw.groups.map((group) => group.lr);
  return {
    adamw,
    setRate(step) {
      const share = schedule(step);
      for (const [i, group] of adamw.groups.entries()) group.lr = (peaks[i] as number) * share;
      return lr * share;
    },
    [Symbol.dispose]: () => adamw[Symbol.dispose](),
  };
}
