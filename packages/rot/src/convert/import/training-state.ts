/** The state of training of an imported checkpoint, as the files that our trainer goes on from. */
import { WeightError } from "@rot/tensor";
import { type TensorSource, writeSafetensors } from "@rot/tensor/safetensors";
import type { Contents } from "../../train/checkpoint-folder.ts";
import { printTrainingState, trainingFiles, type TrainingState } from "../../train/training-state.ts";
import { asF32, type NumberStream, roundsTo } from "./number-stream.ts";
import type { FoundOptimizer, PublishedOptimizer } from "./optimizer-states.ts";

/** The files of a state, and what is to be said of them. */
export interface ImportedState {
  readonly contents: Contents;
  /** Bytes of its tensors. */
  readonly bytes: number;
  /** Where the moments of AdamW are from; null where they begin anew. */
  readonly moments: readonly string[] | null;
}

/** What is trained on. */
export interface Trained {
  /** The stage, as our trainer calls it. */
  readonly task: string;
  readonly step: number;
  /** What learns, by the names that our training gives it. */
  readonly parameters: ReadonlyMap<string, NumberStream>;
}

/**
 * Parameters, in f32 where the optimizer has them so, its moments, and the step.
 *
 * @param found  null when the moments are to begin anew
 * @param note   told why they do, and which of them
 * @throws {WeightError} when the optimizer's copy of a parameter is not the parameter: it is of another checkpoint, or its
 *   order is not the one that is read here
 */
export async function importState(
  { task, step, parameters }: Trained,
  found: FoundOptimizer | null,
  note: (text: string) => void,
): Promise<ImportedState> {
  const fresh = "AdamW begins with new moments";
  if (found === null) note(`${fresh} after step ${step}, as asked for`);
  else if ("missing" in found) note(`${fresh} after step ${step}: ${found.missing}`);
  const optimizer = found === null || "missing" in found ? null : found;
  if (optimizer) await checkOptimizer(optimizer, parameters, step, note);
  const names = optimizer ? [...parameters.keys()].filter((name) => optimizer.slots.has(name)) : [];
  if (optimizer && names.length === 0) note(`${fresh}: ${optimizer.files[0]} holds none of what ${task} trains`);
  else if (optimizer && names.length < parameters.size) {
    const without = [...parameters.keys()].filter((name) => !optimizer.slots.has(name));
    note(
      `${fresh} for ${without.length} parameters that were not trained before: ${without.slice(0, 3).join(", ")}, …`,
    );
  }
  const values = [...parameters].map(([name, tensor]) =>
    sourceOf(name, asF32(optimizer?.slots.get(name)?.master ?? tensor)),
  );
  const moments = names.flatMap((name) =>
    (["exp_avg", "exp_avg_sq"] as const).map((moment) => {
      const slot = (optimizer as PublishedOptimizer).slots.get(name);
      return sourceOf(`${moment}.${name}`, asF32(slot?.[moment] as NumberStream));
    }),
  );
  const state: TrainingState = { task, step, counts: {}, best: null, withoutBest: 0 };
  return {
    contents: {
      [trainingFiles.parameters]: writeSafetensors(values),
      [trainingFiles.optimizer]: writeSafetensors(moments),
      [trainingFiles.state]: [Buffer.from(printTrainingState(state))],
    },
    bytes: [...values, ...moments].reduce((sum, { bytes }) => sum + bytes, 0),
    moments: names.length > 0 && optimizer ? optimizer.files : null,
  };
}

async function checkOptimizer(
  { files, step: own, slots }: PublishedOptimizer,
  parameters: ReadonlyMap<string, NumberStream>,
  step: number,
  note: (text: string) => void,
): Promise<void> {
  const where = files[0] as string;
  if (own !== null && own !== step) {
    note(
      `${where}: AdamW has done ${own} steps, the checkpoint ${step}: the corrections of its moments go on from ${step}`,
    );
  }
  for (const [name, tensor] of parameters) {
    const slot = slots.get(name);
    if (!slot) continue;
    if (String(slot.exp_avg.shape) !== String(tensor.shape)) {
      throw new WeightError(
        `${where}: ${name} is [${slot.exp_avg.shape.join(", ")}] to the optimizer, [${tensor.shape.join(", ")}] among the weights`,
      );
    }
    if (slot.master && !(await roundsTo(slot.master, tensor))) {
      throw new WeightError(
        `${where}: the optimizer's copy of ${name} is not the weight: it is of another step; leave the moments out with --fresh_moments`,
      );
    }
  }
}

const sourceOf = (name: string, { dtype, shape, bytes, stream }: NumberStream): TensorSource & { bytes: number } => ({
  name,
  dtype,
  shape,
  bytes,
  data: stream,
});
