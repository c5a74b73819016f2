/** The next token of each row of logits, chosen on the device: nothing is read back and nothing is taped. */
import {
  argmax,
  cast,
  gatherLast,
  isFloat,
  key,
  logSoftmax,
  print,
  type Seed,
  scope,
  ShapeError,
  tensor,
  type Tensor,
  topk,
  type TopK,
  untaped,
  UsageError,
} from "@rot/tensor";
import { rowsOf } from "../shared/rows.ts";
import { drawTokens } from "./draw.wgsl.ts";

/** How {@link sample} chooses. The filters apply in this order, as in transformers. */
export interface SampleOptions {
  /** Where the random numbers come from: `key(7).for("generate", step)`. Not read where the temperature is 0. */
  readonly seed: Seed;
  /** What logits are divided by; 1 by default. 0 takes the largest, as `argmax` does. */
  readonly temperature?: number;
  /** Only tokens with fewer than so many larger logits; 0, the default, means all. Equals stay or go together. */
  readonly topK?: number;
  /**
   * From 0 to 1: only the likeliest tokens that together reach this share of what topK left, and at least one. Tokens of
   * equal probability stay or go together. 1, the default, means all.
   */
  readonly topP?: number;
  /** [...], i32 or u32: the number of each row's sample; by default rows are counted from 0. */
  readonly samples?: Tensor;
}

/** Counts are kept in f32, which holds every whole number up to here. */
const MOST_TOKENS = 2 ** 24;

/**
 * Draws one token from each row of logits.
 *
 * A row's token depends on its logits, the key and the number of its sample alone, not on the rest of the batch: it is the
 * first, in the order of the vocabulary, at which the cumulative probability exceeds a random number of 24 bits. Tokens
 * e⁸⁷ times less likely than the likeliest are never drawn.
 *
 * @param logits  [..., V], f32, f16 or bf16
 * @returns       [...], i32; -1 for a row that is no distribution, because it holds NaN or +∞, or nothing above −∞
 *   (at temperature 0 it is always what `argmax` says)
 * @throws {ShapeError} when logits holds no floats or no tokens, or `samples` does not number its rows
 * @throws {UsageError} when an option is out of its range
 * @see Fan et al. 2018, https://arxiv.org/abs/1805.04833 (top-k)
 * @see Holtzman et al. 2019, https://arxiv.org/abs/1904.09751 (top-p)
 */
export function sample(
  logits: Tensor,
  { seed, temperature = 1, topK = 0, topP = 1, samples }: SampleOptions,
): Tensor<"i32"> {
  const { rows, width } = checkLogits("sample", logits);
  if (!(temperature === 0 || (temperature >= 1e-6 && temperature < Infinity))) {
    throw new UsageError(`sample: temperature is ${temperature}, neither 0 nor a number from 1e-6 up`);
  }
  if (!Number.isSafeInteger(topK) || topK < 0) throw new UsageError(`sample: topK is ${topK}, not a number of tokens`);
  if (!(topP >= 0 && topP <= 1)) throw new UsageError(`sample: topP is ${topP}, not between 0 and 1`);
  const shape = logits.shape.slice(0, -1);
  if (samples && (print(samples.shape) !== print(shape) || !isInteger(samples))) {
    throw new ShapeError(
      `sample: samples is ${print(samples.shape)} ${samples.dtype}, but must number the rows of logits ${print(logits.shape)}`,
    );
  }
  if (temperature === 0) return untaped(() => argmax(logits, -1));
  const { key0, key1, step, sample: first } = key(seed).uniforms;
  return untaped(() =>
    scope(() => {
      const numbers = Uint32Array.from({ length: rows }, (_, row) => first + row);
      const own = samples ?? tensor(logits.device, numbers, { dtype: "u32" });
      const { token } = drawTokens(
        { logits, samples: own },
        { weights: { shape: [rows, width], dtype: "f32" }, token: { shape, dtype: "i32" } },
        { rows, width, k: topK < width ? topK : 0, p: topP, temperature, key0, key1, step },
      );
      return token as Tensor<"i32">;
    }),
  );
}

/**
 * The log-probability of one token of each row.
 *
 * @param logits  [..., V]; a float
 * @param ids     [...], i32 or u32; NaN comes of an id outside 0 … V − 1, as of -1
 * @returns       [...], f32
 * @throws {ShapeError} when logits holds no floats or no tokens, or the ids do not fit its rows
 */
export function logProbs(logits: Tensor, ids: Tensor): Tensor {
  checkLogits("logProbs", logits);
  return untaped(() => scope(() => gatherLast(logSoftmax(cast(logits, "f32")), ids)));
}

/**
 * The likeliest tokens of each row and their log-probabilities, in descending order; of equals the first comes first.
 *
 * @param logits  [..., V]; a float
 * @param count   how many, some dozens at most
 * @returns       values [..., count] f32, and indices [..., count] i32
 * @throws {ShapeError} when logits holds no floats, or fewer tokens than `count`
 */
export function topLogProbs(logits: Tensor, count: number): TopK {
  checkLogits("topLogProbs", logits);
  return untaped(() => scope(() => topk(logSoftmax(cast(logits, "f32")), count)));
}

const isInteger = ({ dtype }: Tensor): boolean => dtype === "i32" || dtype === "u32";

function checkLogits(who: string, logits: Tensor): { rows: number; width: number } {
  const { shape, dtype } = logits;
  const width = shape.at(-1) ?? 0;
  if (!isFloat(dtype) || width === 0 || width > MOST_TOKENS) {
    throw new ShapeError(`${who}: logits is ${print(shape)} ${dtype}, not floats over 1 to ${MOST_TOKENS} tokens`);
  }
  return rowsOf(logits);
}
