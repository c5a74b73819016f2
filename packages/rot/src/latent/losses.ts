/** How far a predicted latent is from its target, one number a row. */
import {
  binary,
  compare,
  cast,
  mean,
  print,
  ShapeError,
  scope,
  softmax,
  logSoftmax,
  logicalOr,
  sum,
  type Tensor,
  unary,
  where,
} from "@rot/tensor";

const { add, div, mul, sub } = binary;

/** The losses of the published library, under its names. */
export const latentLosses = ["mse_only", "cosine_only", "kl_only", "huber", "stable_similarity"] as const;
export type LatentLossName = (typeof latentLosses)[number];

/** What {@link latentLoss} takes besides the vectors. */
export interface LatentLossOptions {
  /** Whether squares are averaged over the components, as the code does, or summed, as the paper's formula says. */
  readonly components?: "mean" | "sum";
}

/** Vectors shorter than this have no direction. */
const SHORTEST = 1e-6;

/**
 * The loss of each row. Cosine and KL fall back to the squared error where they mean nothing: at vectors without a direction,
 * and where the result is not finite.
 *
 * @param predicted  [N, D]
 * @param target     [N, D]
 * @returns          [N]
 * @throws {ShapeError} when they are not two matrices of one shape
 * @see Wang et al. 2026, "Render-of-Thought", https://arxiv.org/abs/2601.14750, eq. 2; models/loss.py
 */
export function latentLoss(
  name: LatentLossName,
  predicted: Tensor,
  target: Tensor,
  { components = "mean" }: LatentLossOptions = {},
): Tensor {
  if (predicted.rank !== 2 || print(predicted.shape) !== print(target.shape)) {
    throw new ShapeError(`latentLoss: predicted is ${print(predicted.shape)}, target ${print(target.shape)}`);
  }
  const over = components === "mean" ? mean : sum;
  const squared = (): Tensor => over(unary.square(sub(predicted, target)), -1);
  return scope(() => {
    switch (name) {
      case "mse_only":
        return squared();
      case "huber": {
        const distance = unary.abs(sub(predicted, target));
        const slope = binary.minimum(distance, 1);
        return over(sub(mul(slope, distance), mul(0.5, unary.square(slope))), -1);
      }
      case "cosine_only":
        return cosine(predicted, target, squared());
      case "kl_only":
        return divergence(predicted, target, squared());
      case "stable_similarity": {
        const square = squared();
        const parts = add(mul(0.5, square), mul(0.3, cosine(predicted, target, square)));
        return add(parts, mul(0.2, divergence(predicted, target, square)));
      }
    }
  });
}

/** 1 − cos, or the fallback. */
function cosine(predicted: Tensor, target: Tensor, fallback: Tensor): Tensor {
  const [p, t] = [predicted, target].map((x) => sum(unary.square(x), -1)) as [Tensor, Tensor];
  const short = logicalOr(compare.lt(p, SHORTEST ** 2), compare.lt(t, SHORTEST ** 2));
  // What is not used must not be infinite either: its gradient would be, and 0 · ∞ is NaN.
  const lengths = mul(unary.sqrt(where(short, 1, p)), unary.sqrt(where(short, 1, t)));
  const cos = div(sum(mul(predicted, target), -1), lengths);
  const clamped = binary.maximum(binary.minimum(cos, 1 - 1e-6), -1 + 1e-6);
  return where(logicalOr(short, isOff(cos)), fallback, sub(1, clamped));
}

/** KL(softmax(target) ‖ softmax(predicted)) over the components, or the fallback. */
function divergence(predicted: Tensor, target: Tensor, fallback: Tensor): Tensor {
  const log = logSoftmax(target, -1);
  const kl = sum(mul(softmax(target, -1), sub(log, logSoftmax(predicted, -1))), -1);
  return where(isOff(kl), fallback, kl);
}

/** Where a value is NaN or infinite: only those differ from themselves minus themselves. */
const isOff = (x: Tensor): Tensor => compare.ne(sub(x, x), 0);

/**
 * Σ weight · loss over rows that belong to samples.
 *
 * @param losses   [N]
 * @param weights  [N], on the host
 * @returns        []
 */
export function weighted(losses: Tensor, weights: Tensor): Tensor {
  return scope(() => sum(mul(cast(losses, "f32"), weights)));
}
