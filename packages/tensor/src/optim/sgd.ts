/** Stochastic gradient descent, with momentum if wanted. */
import { type Group, Optimizer, type Parameters, type Trained } from "./optimizer.ts";
import { defineUpdate, type Pair } from "./update.ts";

/** The numbers of a group, with PyTorch's defaults. */
export interface SgdOptions {
  /** Learning rate; 1e-3. */
  lr: number;
  /** How much of the velocity is kept at each step; 0 keeps none and needs no memory. */
  momentum: number;
  /** How much of the gradient the velocity does not take, from the second step on; 0. */
  dampening: number;
  /** Whether the step looks ahead along the velocity; needs momentum and no dampening. */
  nesterov: boolean;
  /** The share of a parameter that is added to its gradient; 0. */
  weightDecay: number;
}

type State = "momentum_buffer";

const decayed = `
  var d = g;
  if (u.decay != 0.0) { d += u.decay * p; }`;

const plain = defineUpdate({
  name: "sgd.step",
  state: [],
  uniforms: { lr: "f32", decay: "f32" },
  body: `
    ${decayed}
    p -= u.lr * d;`,
});

const withMomentum = defineUpdate({
  name: "sgd.step",
  state: ["momentum_buffer"],
  uniforms: { lr: "f32", decay: "f32", momentum: "f32", take: "f32", first: "u32", nesterov: "u32" },
  body: `
    ${decayed}
    momentum_buffer = select(momentum_buffer * u.momentum + d * u.take, d, u.first == 1u);
    p -= u.lr * select(momentum_buffer, d + u.momentum * momentum_buffer, u.nesterov == 1u);`,
});

/**
 * With g the gradient, μ the momentum, τ the dampening, λ the weight decay:
 *
 *     g ← g + λ p
 *     b ← μ b + (1 − τ) g, at the first step b ← g
 *     p ← p − lr · b, with nesterov p − lr · (g + μ b)
 *
 * @see torch.optim.SGD
 */
export class SGD extends Optimizer<SgdOptions, State> {
  /**
   * @param parameters  leaves, or groups of them with numbers of their own
   * @throws {UsageError} when there is no parameter, one is given twice or is no float, or a number makes no sense
   */
  constructor(parameters: Parameters<SgdOptions>, options: Partial<SgdOptions> = {}) {
    const defaults = { lr: 1e-3, momentum: 0, dampening: 0, nesterov: false, weightDecay: 0, ...options };
    const names = { lr: "lr", momentum: "momentum", dampening: "dampening", nesterov: "nesterov" };
    super(parameters, defaults, { ...names, weightDecay: "weight_decay" });
  }

  protected override complaint(group: Group<SgdOptions>): string | undefined {
    const { lr, momentum, dampening, nesterov, weightDecay } = group;
    if (!(lr >= 0)) return `lr is ${lr}, below 0`;
    if (!(momentum >= 0)) return `momentum is ${momentum}, below 0`;
    if (!(weightDecay >= 0)) return `weightDecay is ${weightDecay}, below 0`;
    if (nesterov && (momentum === 0 || dampening !== 0)) return "nesterov needs momentum and no dampening";
    return undefined;
  }

  protected override stateNames({ momentum }: Group<SgdOptions>): readonly State[] {
    return momentum === 0 ? [] : ["momentum_buffer"];
  }

  protected override update(
    pairs: readonly Pair<Trained<State>>[],
    _step: number,
    group: Group<SgdOptions>,
    fresh: boolean,
  ): void {
    const { lr, momentum, dampening, nesterov, weightDecay: decay } = group;
    if (momentum === 0) return plain(pairs, { lr, decay });
    const flags = { first: fresh ? 1 : 0, nesterov: nesterov ? 1 : 0 };
    withMomentum(pairs, { lr, decay, momentum, take: 1 - dampening, ...flags });
  }
}
