/** The numbers of all rows, and what the statistics file says of them. */
import type { Encoding } from "../../render/vision.ts";
import type { BadRow } from "../sample.ts";
import type { Measured } from "./measure.ts";
import { type Distribution, summarize } from "./statistics.ts";

/** `{dataset}_{split}_stats.json`: the reference's fields, then ours. Lengths are of every row that was kept. */
export interface Statistics {
  readonly total_samples: number;
  readonly cot_char_length: Distribution;
  readonly cot_line_count: Distribution;
  readonly cot_word_count: Distribution;
  /** The share that the encoding can take whole, among the first 1,000 rows as in the reference. */
  readonly rendering: { readonly can_render_ratio: number; readonly sampled_count: number };
  /** Rows of latents. */
  readonly estimated_lines: Distribution;
  readonly encoding: Encoding;
  /** Pixels. */
  readonly strip_width: Distribution;
  readonly vision_tokens: {
    readonly exact: Distribution;
    /** Of the rows that the reference can encode. */
    readonly reference: Distribution;
    /** Rows that it cannot: strips more than 200 times as wide as high. */
    readonly reference_too_wide: number;
  };
  /** Where a tokenizer was given. `sequence` is question, latents and answer together. */
  readonly text_tokens?: {
    readonly question: Distribution;
    readonly cot: Distribution;
    readonly answer: Distribution;
    readonly sequence: Distribution;
  };
  /** Characters that no font has, and rows with one. */
  readonly missing_characters: { readonly characters: number; readonly rows: number };
  /** Rows without a chain: only the markers are drawn. */
  readonly empty_chains: number;
  /** Rows left out, and the first 100 of them. */
  readonly skipped: { readonly count: number; readonly rows: readonly BadRow[] };
}

const SAMPLED = 1000;
const SKIPPED_SHOWN = 100;

/** The numbers of every row, one list a quantity, in the order of the rows. */
export class Numbers {
  readonly characters: number[] = [];
  readonly lines: number[] = [];
  readonly words: number[] = [];
  readonly widths: number[] = [];
  readonly exact: number[] = [];
  /** Of rows that the reference can encode. */
  readonly reference: number[] = [];
  readonly estimatedLines: number[] = [];
  readonly question: number[] = [];
  readonly cot: number[] = [];
  readonly answer: number[] = [];
  readonly sequence: number[] = [];
  #sampled = 0;
  /** Rows that the chosen encoding takes whole. */
  rendered = 0;
  #missing = { characters: 0, rows: 0 };
  #empty = 0;
  readonly #encoding: Encoding;

  constructor(encoding: Encoding) {
    this.#encoding = encoding;
  }

  /** Counts a row in. */
  add(row: Measured): void {
    const { strip, exact, reference, tokens } = row;
    this.characters.push(row.characters);
    this.lines.push(row.lines);
    this.words.push(row.words);
    this.widths.push(strip.width);
    this.exact.push(exact.tokens);
    if (reference) this.reference.push(reference.tokens);
    const grid = row[this.#encoding];
    this.estimatedLines.push(grid?.rows ?? 0);
    if (grid) {
      this.rendered++;
      if (this.widths.length <= SAMPLED) this.#sampled++;
    }
    if (tokens) {
      this.question.push(tokens.question.length);
      this.cot.push(tokens.chain);
      this.answer.push(tokens.answer.length);
      this.sequence.push(sequenceLength(row, this.#encoding));
    }
    this.#missing.characters += strip.missing;
    if (strip.missing > 0) this.#missing.rows++;
    if (row.characters === 0) this.#empty++;
  }

  /** The statistics of the rows so far. */
  statistics(skipped: readonly BadRow[]): Statistics {
    const total = this.widths.length;
    const sampled = Math.min(total, SAMPLED);
    return {
      total_samples: total,
      cot_char_length: summarize(this.characters),
      cot_line_count: summarize(this.lines),
      cot_word_count: summarize(this.words),
      rendering: { can_render_ratio: sampled === 0 ? 0 : this.#sampled / sampled, sampled_count: sampled },
      estimated_lines: summarize(this.estimatedLines),
      encoding: this.#encoding,
      strip_width: summarize(this.widths),
      vision_tokens: {
        exact: summarize(this.exact),
        reference: summarize(this.reference),
        reference_too_wide: total - this.reference.length,
      },
      ...(this.question.length > 0 && {
        text_tokens: {
          question: summarize(this.question),
          cot: summarize(this.cot),
          answer: summarize(this.answer),
          sequence: summarize(this.sequence),
        },
      }),
      missing_characters: this.#missing,
      empty_chains: this.#empty,
      skipped: { count: skipped.length, rows: skipped.slice(0, SKIPPED_SHOWN) },
    };
  }
}

/** Tokens of question, latents and answer together; 0 without a tokenizer. */
export function sequenceLength({ tokens, ...grids }: Measured, encoding: Encoding): number {
  return tokens ? tokens.question.length + (grids[encoding]?.tokens ?? 0) + tokens.answer.length : 0;
}
