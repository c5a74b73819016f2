/** AdamW: Adam with weight decay that bypasses the moments. */
import { type Group, Optimizer, type Parameters, type Trained } from "./optimizer.ts";
import { defineUpdate, type Pair } from "./update.ts";

/** The numbers of a group, with PyTorch's defaults. */
export interface AdamWOptions {
  /** Learning rate; 1e-3. */
  lr: number;
  /** How much of the moments is kept at each step; 0.9 and 0.999. */
  betas: readonly [number, number];
  /** Added to the root of the second moment, in the units of the gradient; 1e-8. */
  eps: number;
  /** The share of a parameter that is taken off at each step, before `lr`; 1e-2. */
  weightDecay: number;
}

type State = "exp_avg" | "exp_avg_sq";

const update = defineUpdate({
  name: "adamw.step",
  state: ["exp_avg", "exp_avg_sq"],
  uniforms: { keep: "f32", rate: "f32", take1: "f32", keep2: "f32", take2: "f32", root2: "f32", eps: "f32" },
  body: `
    exp_avg += (g - exp_avg) * u.take1;
    exp_avg_sq = exp_avg_sq * u.keep2 + g * g * u.take2;
    p = p * u.keep - u.rate * (exp_avg / (sqrt(exp_avg_sq) / u.root2 + u.eps));`,
});

/**
 * With g the gradient at step t, β the betas, λ the weight decay:
 *
 *     p ← p · (1 − lr · λ)
 *     m ← β₁ m + (1 − β₁) g
 *     v ← β₂ v + (1 − β₂) g²
 *     p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
 *
 * Moments are f32, whatever the dtype of the parameter.
 *
 * @see Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101, alg. 2; torch.optim.AdamW
 */
export class AdamW extends Optimizer<AdamWOptions, State> {
  /**
   * @param parameters  leaves, or groups of them with numbers of their own
   * @throws {UsageError} when there is no parameter, one is given twice or is no float, or a number makes no sense
   */
  constructor(parameters: Parameters<AdamWOptions>, options: Partial<AdamWOptions> = {}) {
    const defaults = { lr: 1e-3, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 1e-2, ...options };
    super(parameters, defaults, { lr: "lr", betas: "betas", eps: "eps", weightDecay: "weight_decay" });
  }

  protected override complaint({ lr, betas, eps, weightDecay }: Group<AdamWOptions>): string | undefined {
    if (!(lr >= 0)) return `lr is ${lr}, below 0`;
    if (!(eps >= 0)) return `eps is ${eps}, below 0`;
    if (!(weightDecay >= 0)) return `weightDecay is ${weightDecay}, below 0`;
    // Saved ones may be anything.
    if (!Array.isArray(betas) || betas.length !== 2 || !betas.every((beta) => beta >= 0 && beta < 1)) {
      return `betas are ${String(betas)}, not two numbers in [0, 1)`;
    }
    return undefined;
  }

  protected override stateNames(): readonly State[] {
    return ["exp_avg", "exp_avg_sq"];
  }

  protected override update(pairs: readonly Pair<Trained<State>>[], step: number, group: Group<AdamWOptions>): void {
    const { lr, betas, eps, weightDecay } = group;
    const [beta1, beta2] = betas;
    update(pairs, {
      keep: 1 - lr * weightDecay,
      rate: lr / (1 - beta1 ** step),
      take1: 1 - beta1,
      keep2: beta2,
      take2: 1 - beta2,
      root2: Math.sqrt(1 - beta2 ** step),
      eps,
    });
  }
}
