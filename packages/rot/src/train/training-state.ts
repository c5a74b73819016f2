/** All that a stage carries from step to step, as the files of a checkpoint: parameters, moments, counters. */
import { join } from "node:path";
import { loadCheckpoint, tensorSource } from "@rot/models";
import { openFiles, readJson } from "@rot/models/node";
import { type AdamW, assign, type Tensor, untaped } from "@rot/tensor";
import { writeSafetensors } from "@rot/tensor/safetensors";
import { CheckpointError, type Contents } from "./checkpoint-folder.ts";
import type { TrainingTask } from "./task.ts";

/** What a checkpoint says besides its tensors. */
export interface TrainingState {
  /** The task that was trained. */
  readonly task: string;
  /** Optimizer steps done. */
  readonly step: number;
  /** Sums since the begin of training: samples, tokens, latents. */
  readonly counts: Readonly<Record<string, number>>;
  /** The best validation so far, and its step. */
  readonly best: { readonly step: number; readonly validation: number; readonly accuracy?: number } | null;
  /** Validations since the best. */
  readonly withoutBest: number;
  /** Whether the run was stopped before the validation that follows this step was done. */
  readonly validationDue?: boolean;
}

/** Names of the files. */
export const trainingFiles = {
  parameters: "parameters.safetensors",
  optimizer: "optimizer.safetensors",
  state: "training.json",
} as const;
const { parameters: PARAMETERS, optimizer: OPTIMIZER, state: STATE } = trainingFiles;

/** The text of `training.json`. */
export const printTrainingState = (state: TrainingState): string =>
  `${JSON.stringify({ format: 1, ...state }, null, 2)}\n`;

/** The tensors of an optimizer by `moment.parameter`. */
function moments(optimizer: AdamW, names: readonly string[]): [name: string, tensor: Tensor][] {
  return Object.entries(optimizer.stateDict().state).flatMap(([i, saved]) =>
    Object.entries(saved).flatMap(([moment, value]): [string, Tensor][] =>
      value !== null && typeof value === "object" ? [[`${moment}.${names[Number(i)]}`, value]] : [],
    ),
  );
}

/** The files of a checkpoint. They are read from the device when they are written, before the next step. */
export function trainingContents(task: TrainingTask, optimizer: AdamW, state: TrainingState): Contents {
  const sources = (tensors: Iterable<readonly [string, Tensor]>) =>
    [...tensors].map(([name, tensor]) => tensorSource(name, tensor as Tensor<"f32">));
  return {
    [PARAMETERS]: writeSafetensors(sources(task.parameters)),
    [OPTIMIZER]: writeSafetensors(sources(moments(optimizer, [...task.parameters.keys()]))),
    [STATE]: [Buffer.from(printTrainingState(state))],
  };
}

/**
 * Puts a task and its optimizer where a checkpoint left them. Learning rate, betas and the like stay the optimizer's own.
 *
 * @throws {CheckpointError} when the checkpoint is of another task
 * @throws {WeightsError} when its tensors are not those of the task
 */
export async function restore(path: string, task: TrainingTask, optimizer: AdamW): Promise<TrainingState> {
  const file = join(path, STATE);
  const saved = (await readJson(file)) as TrainingState & { readonly format: number };
  if (saved.format !== 1) throw new CheckpointError(`${file} has format ${saved.format}, and this version reads 1`);
  if (saved.task !== task.name) {
    throw new CheckpointError(`${path} is a checkpoint of ${saved.task}, not of ${task.name}`);
  }
  const names = [...task.parameters.keys()];
  const values = await tensorsOf(path, PARAMETERS, task, (name) => name);
  try {
    for (const [name, parameter] of task.parameters) untaped(() => assign(parameter, values.get(name) as Tensor));
  } finally {
    for (const tensor of values.values()) tensor.dispose();
  }
  const { format: _, ...state } = saved;
  const { step } = state;
  if (step > 0) {
    const moments: Record<string, Record<string, Tensor | number>> = {};
    const loaded = await tensorsOf(path, OPTIMIZER, task, (moment) => moment.slice(moment.indexOf(".") + 1));
    try {
      for (const [moment, tensor] of loaded) {
        const at = moment.indexOf(".");
        (moments[names.indexOf(moment.slice(at + 1))] ??= { step })[moment.slice(0, at)] = tensor;
      }
      optimizer.loadStateDict({ state: moments, param_groups: optimizer.stateDict().param_groups });
    } finally {
      for (const tensor of loaded.values()) tensor.dispose();
    }
  }
  return state;
}

/** The tensors of a file of a checkpoint, whose shapes are those of parameters. */
async function tensorsOf(
  path: string,
  file: string,
  { parameters }: TrainingTask,
  parameterOf: (name: string) => string,
): Promise<Map<string, Tensor>> {
  await using opened = await openFiles(path, [file]);
  const shapes = new Map(
    [...(file === PARAMETERS ? parameters.keys() : opened.tensors.keys())].map((name) => {
      const parameter = parameters.get(parameterOf(name));
      if (!parameter) throw new CheckpointError(`${join(path, file)} holds ${name}, and there is no such parameter`);
      return [name, parameter.shape];
    }),
  );
  const { device } = parameters.values().next().value as Tensor;
  return await loadCheckpoint(opened, { parameters: shapes, linears: new Map() }, device);
}
