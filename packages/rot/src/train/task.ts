/** What a stage of training is: parameters, and for each step its losses and gradients. */
import type { Schedule, Tensor } from "@rot/tensor";

/** What came of a step, before it is applied. */
export interface StepGradients {
  /** Scalars on the device by name, `loss` the one that is minimised. */
  readonly losses: { readonly loss: Tensor } & Readonly<Record<string, Tensor>>;
  /** In the order of the parameters; null where none flows. */
  readonly gradients: readonly (Tensor | null)[];
  /** What was worked through: `samples`, `tokens`, `latents`. */
  readonly counts: Readonly<Record<string, number>>;
}

/** How the parameters are changed. */
export interface OptimizerSettings {
  /** The peak of the learning rate. */
  readonly lr: number;
  readonly schedule: Schedule;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weightDecay?: number;
  /** The largest norm of all gradients together; without it they are not clipped. */
  readonly maxGradNorm?: number;
}

/** A stage of training. */
export interface TrainingTask {
  /** What progress and messages call it. */
  readonly name: string;
  /** Leaves, by the names that checkpoints give them. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Optimizer steps in all. */
  readonly steps: number;
  readonly optimizer: OptimizerSettings;
  /**
   * The losses and gradients of a step. A function of the number of the step and of the parameters alone, so that a run
   * that was interrupted goes on with the same bits.
   */
  gradients(step: number): StepGradients | Promise<StepGradients>;
  /** Whether training may end before its last step, judged by the losses of the steps so far, the latest last. */
  isDone?(losses: readonly Readonly<Record<string, number>>[]): boolean;
  /** Numbers that say how good the parameters are now, for choosing the best; smaller `validation` is better. */
  validate?(): Promise<{ readonly validation: number } & Readonly<Record<string, number>>>;
}
