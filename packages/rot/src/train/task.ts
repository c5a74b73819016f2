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
  /** Parameters with numbers of their own; the others have those above. */
  readonly groups?: readonly ParameterGroup[];
}

/** Parameters, and what is different for them. The schedule is that of all. */
export interface ParameterGroup {
  readonly names: ReadonlySet<string>;
  readonly lr?: number;
  readonly weightDecay?: number;
}

/** What a validation found: `validation`, the loss, and perhaps its parts and the `accuracy`. */
export type ValidationResults = { readonly validation: number } & Readonly<Record<string, number>>;

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
  /** The numbers of the samples that a step sees, batch after batch, where it is known beforehand. */
  samples?(step: number): readonly number[];
  /** Whether training may end before its last step, judged by the losses of the steps so far, the latest last. */
  isDone?(losses: readonly Readonly<Record<string, number>>[]): boolean;
  /**
   * Says how good the parameters are now. A function of them alone.
   *
   * @throws the signal's reason when it ends the work
   */
  validate?(signal?: AbortSignal): Promise<ValidationResults>;
}
