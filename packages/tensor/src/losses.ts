/**
 * Losses: one number that says how far a prediction is from its target, as PyTorch's functions of these names with their
 * default reduction. They are compositions of primitives, computed and returned in f32 whatever the dtypes.
 */
import { ShapeError } from "./errors.ts";
import { binary } from "./ops/binary.ts";
import { cast } from "./ops/cast.ts";
import { compare, logicalOr } from "./ops/compare.ts";
import { gatherLast } from "./ops/gather.ts";
import { mean, norm, sum } from "./ops/reduce.ts";
import { logSoftmax } from "./ops/softmax.ts";
import { unary } from "./ops/unary.ts";
import { where } from "./ops/where.ts";
import { scope } from "./scope.ts";
import { print, sameShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const { add, sub, mul, div } = binary;

/** A loss of two tensors of one shape, which are f32 when it gets them. */
function defineLoss<O extends readonly unknown[]>(
  name: string,
  f: (predicted: Tensor, target: Tensor, ...options: O) => Tensor,
): (predicted: Tensor, target: Tensor, ...options: O) => Tensor {
  return (predicted, target, ...options) => {
    if (!sameShape(predicted.shape, target.shape)) {
      throw new ShapeError(`${name}: predicted is ${print(predicted.shape)}, target ${print(target.shape)}`);
    }
    return scope(() => f(cast(predicted, "f32"), cast(target, "f32"), ...options));
  };
}

/** The same, for losses of vectors along the last axis. */
const defineVectorLoss = (name: string, f: (predicted: Tensor, target: Tensor) => Tensor) =>
  defineLoss(name, (predicted, target) => {
    if (predicted.rank === 0) throw new ShapeError(`${name}: it compares vectors, got scalars`);
    return f(predicted, target);
  });

/**
 * mean (p − t)².
 *
 * @param predicted  of any shape
 * @param target     of the same shape
 * @returns          [], NaN where there is no element
 * @throws {ShapeError} when the shapes differ
 */
export const meanSquaredError = defineLoss("meanSquaredError", (predicted, target) =>
  mean(unary.square(sub(predicted, target))),
);

/** What {@link huberLoss} takes besides the tensors. */
export interface HuberOptions {
  /** Where the parabola goes over into straight lines, in the units of the prediction. */
  readonly delta?: number;
}

/**
 * The mean of ½ d² where |d| = |p − t| is at most δ, and of δ (|d| − ½ δ) beyond.
 *
 * @param predicted  of any shape
 * @param target     of the same shape
 * @param options    δ is 1 by default
 * @returns          [], NaN where there is no element
 * @throws {ShapeError} when the shapes differ
 * @see Huber 1964, https://doi.org/10.1214/aoms/1177703732
 */
export const huberLoss = defineLoss("huberLoss", (predicted, target, { delta = 1 }: HuberOptions = {}) => {
  const distance = unary.abs(sub(predicted, target));
  // With s = min(|d|, δ) both pieces are s |d| − ½ s², and nowhere is one computed that the other would have to hide.
  const slope = binary.minimum(distance, delta);
  return mean(sub(mul(slope, distance), mul(0.5, unary.square(slope))));
});

/** What {@link crossEntropy} takes besides the tensors. */
export interface CrossEntropyOptions {
  /** Rows with this label count for nothing. */
  readonly ignoreIndex?: number;
}

/**
 * The mean of −ln softmax(logits)[label] over the rows whose label is not ignored, in nats.
 *
 * @param logits   [..., V]
 * @param labels   [...], i32 or u32; a label outside 0 … V − 1 that is not ignored makes the loss NaN
 * @param options  `ignoreIndex` is -100 by default
 * @returns        [], NaN where every label is ignored, as in PyTorch
 * @throws {ShapeError} when the shape of the labels is not that of the logits without its last axis, or they are no integers
 */
export function crossEntropy(logits: Tensor, labels: Tensor, { ignoreIndex = -100 }: CrossEntropyOptions = {}): Tensor {
  if (logits.rank === 0 || !sameShape(labels.shape, logits.shape.slice(0, -1))) {
    throw new ShapeError(
      `crossEntropy: labels are ${print(labels.shape)}, which is not the shape of logits ${print(logits.shape)} without its last axis`,
    );
  }
  return scope(() => {
    const logProbability = gatherLast(logSoftmax(cast(logits, "f32"), -1), labels);
    const counts = compare.ne(labels, ignoreIndex);
    return div(sum(where(counts, unary.neg(logProbability), 0)), cast(sum(counts), "f32"));
  });
}

/**
 * The Kullback-Leibler divergence of two distributions given by their logits along the last axis:
 * Σ t (ln t − ln p) over all elements, divided by the length of the first axis alone (PyTorch's `batchmean`).
 *
 * @param predicted  [B, ..., V], logits of p
 * @param target     [B, ..., V], logits of t; what has probability 0 counts for nothing
 * @returns          []
 * @throws {ShapeError} when the shapes differ or are scalars
 */
export const klDivergence = defineVectorLoss("klDivergence", (predicted, target) => {
  const logT = logSoftmax(target, -1);
  const t = unary.exp(logT);
  const terms = mul(t, sub(logT, logSoftmax(predicted, -1)));
  return div(sum(where(compare.eq(t, 0), 0, terms)), predicted.shape[0] as number);
});

/** Below this length a vector has no direction to speak of. */
const SHORTEST = 1e-6;
/** The largest cosine that still has a gradient. */
const CLAMP = 1 - 1e-6;

/**
 * mean (1 − cos(p, t)) over the vectors of the last axis, with the cosine clamped to ±(1 − 1e-6). If any vector, of
 * either side, is shorter than 1e-6, the whole loss is the mean squared error instead: value and gradient are chosen on
 * the device.
 *
 * @param predicted  [..., D]
 * @param target     [..., D]
 * @returns          []
 * @throws {ShapeError} when the shapes differ or are scalars
 * @see Render-of-Thought, https://arxiv.org/abs/2601.14750, its cosine loss
 */
export const cosineLoss = defineVectorLoss("cosineLoss", (predicted, target) => {
  const lengths = [predicted, target].map((x) => norm(x, -1, { keepDim: true })) as [Tensor, Tensor];
  const [shortP, shortT] = lengths.map((length) => compare.lt(length, SHORTEST)) as [Tensor, Tensor];
  const anyShort = compare.gt(sum(logicalOr(shortP, shortT)), 0);
  // The branch that is not chosen must not divide by zero: its NaN would spoil the gradient of the other.
  const unit = (x: Tensor, length: Tensor, short: Tensor): Tensor => div(x, where(short, 1, length));
  const cosine = sum(mul(unit(predicted, lengths[0], shortP), unit(target, lengths[1], shortT)), -1);
  const clamped = where(compare.gt(unary.abs(cosine), CLAMP), mul(unary.sign(cosine), CLAMP), cosine);
  return where(anyShort, meanSquaredError(predicted, target), mean(sub(1, clamped)));
});

/**
 * 0.5 · {@link meanSquaredError} + 0.3 · {@link cosineLoss} + 0.2 · {@link klDivergence}.
 *
 * @param predicted  [B, ..., D]
 * @param target     [B, ..., D]
 * @returns          []
 * @throws {ShapeError} when the shapes differ or are scalars
 */
export const stableSimilarity = defineVectorLoss("stableSimilarity", (predicted, target) => {
  const squares = mul(0.5, meanSquaredError(predicted, target));
  const angles = mul(0.3, cosineLoss(predicted, target));
  return add(add(squares, angles), mul(0.2, klDivergence(predicted, target)));
});
