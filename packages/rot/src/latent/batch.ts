/** Samples of unequal length in one batch, padded on the right, and where each part of them lies in it. */
import type { Span } from "@rot/models";
import { ShapeError } from "@rot/tensor";

/** What a sample is made of, as token ids. */
export interface SampleTokens {
  /** The prompt; its last token is the marker that latents begin. */
  readonly question: Int32Array;
  /** What is learnt as text: the marker that latents end, and the answer. */
  readonly answer: Int32Array;
}

/** One sequence a sample, all of one length: the question, then latents, then the answer, then padding. */
export interface BatchLayout {
  /** B · L ids, row by row. 0 stands at latents and padding. */
  readonly ids: Int32Array;
  readonly sequences: number;
  /** L. */
  readonly length: number;
  /** Which rows of each sequence are no padding. */
  readonly valid: readonly Span[];
  /** Rows b · L + l of the latents, sample after sample. */
  readonly latentRows: Int32Array;
  /** Rows whose hidden state each latent is made of: those before {@link latentRows}. */
  readonly sourceRows: Int32Array;
  /** Rows whose hidden state predicts each token of the answers. */
  readonly answerRows: Int32Array;
  /** The tokens of the answers, as {@link answerRows} predict them. */
  readonly labels: Int32Array;
}

/** What each row of a sum counts: alike for all, or alike for each sample and so more for those of few rows. */
export type Weighting = "sample" | "token";

/**
 * Lays a batch out.
 *
 * @param counts  latents of each sample; 0 where there is none
 * @throws {ShapeError} when a sample has no question or no answer, or there is not one count for each
 */
export function layOutBatch(samples: readonly SampleTokens[], counts: readonly number[]): BatchLayout {
  if (samples.length === 0 || counts.length !== samples.length) {
    throw new ShapeError(`layOutBatch: ${counts.length} counts for ${samples.length} samples`);
  }
  const ends = samples.map(({ question, answer }, b) => {
    if (question.length === 0 || answer.length === 0) {
      throw new ShapeError(
        `layOutBatch: sample ${b} has ${question.length} tokens of question and ${answer.length} of answer`,
      );
    }
    return question.length + (counts[b] as number) + answer.length;
  });
  const length = Math.max(...ends);
  const ids = new Int32Array(samples.length * length);
  const [latentRows, answerRows, labels]: [number[], number[], number[]] = [[], [], []];
  for (const [b, { question, answer }] of samples.entries()) {
    const count = counts[b] as number;
    const begin = b * length + question.length;
    ids.set(question, b * length);
    ids.set(answer, begin + count);
    for (let t = 0; t < count; t++) latentRows.push(begin + t);
    for (const [i, label] of answer.entries()) {
      answerRows.push(begin + count + i - 1);
      labels.push(label);
    }
  }
  return {
    ids,
    sequences: samples.length,
    length,
    valid: ends.map((end) => [0, end] as const),
    latentRows: Int32Array.from(latentRows),
    sourceRows: Int32Array.from(latentRows, (row) => row - 1),
    answerRows: Int32Array.from(answerRows),
    labels: Int32Array.from(labels),
  };
}

/** Rows and samples of a whole step, of which a batch may be a part. */
export interface Whole {
  readonly rows: number;
  readonly samples: number;
}

/** The whole that these counts are themselves. Samples without rows count for nothing. */
export const wholeOf = (counts: readonly number[]): Whole => ({
  rows: counts.reduce((sum, n) => sum + n, 0),
  samples: counts.filter((n) => n > 0).length,
});

/**
 * The part of each row in a mean: of all rows, or of samples of which each is a mean over its own rows. Over the batches of
 * a step they add up to 1, so that gradients of batches, added up, are those of one large batch.
 *
 * @param counts  rows of each sample
 * @param whole   of the step; by default the batch is all of it
 */
export function rowWeights(
  counts: readonly number[],
  weighting: Weighting,
  { rows, samples }: Whole = wholeOf(counts),
): Float32Array {
  return Float32Array.from(
    counts.flatMap((n) => Array<number>(n).fill(weighting === "token" ? 1 / rows : 1 / (n * samples))),
  );
}
