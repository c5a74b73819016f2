/** What a sample costs: characters, pixels, latents and tokens. */
import { ImageError, type ImageProcessor } from "@rot/models";
import { answerTokens, type Markers, questionTokens } from "../../methods/rot/prompt.ts";
import type { Renderer, Strip } from "../../render/strip.ts";
import { type LatentGrid, latentGrid } from "../../render/vision.ts";
import type { Sample } from "../sample.ts";

/** What turns text into tokens of a model. */
export type Prompting = Parameters<typeof questionTokens>[0];

/** What samples are measured with. */
export interface Measure {
  readonly renderer: Renderer;
  readonly processor: ImageProcessor;
  /** Without one, no text tokens are counted. */
  readonly prompting?: Prompting | undefined;
}

/** A sample in numbers. */
export interface Measured {
  /** The drawn chain. */
  readonly strip: Strip;
  /** Unicode characters, lines and words of the chain. */
  readonly characters: number;
  readonly lines: number;
  readonly words: number;
  readonly exact: LatentGrid;
  /** Null where the reference fails: the strip is too wide for it. */
  readonly reference: LatentGrid | null;
  /** Null without a tokenizer. */
  readonly tokens: SampleTokens | null;
}

/** The text tokens of a sample. */
export interface SampleTokens {
  /** The prompt with the marker that latents begin. */
  readonly question: Int32Array;
  /** The chain as text: what the latents stand for. */
  readonly chain: number;
  /** The marker that latents end, and the answer. These carry the language loss. */
  readonly answer: Int32Array;
}

/**
 * Measures a sample.
 *
 * @throws {UsageError} when its chain is too long to be drawn
 */
export function measure(sample: Sample, { renderer, processor, prompting }: Measure): Measured {
  const strip = renderer.strip(sample.cot);
  return {
    strip,
    characters: characters(sample.cot),
    lines: sample.cot.split("\n").length,
    words: words(sample.cot),
    exact: latentGrid(strip, "exact", processor),
    reference: referenceGrid(strip, processor),
    tokens: prompting ? tokensOf(sample, prompting) : null,
  };
}

function referenceGrid(strip: Strip, processor: ImageProcessor): LatentGrid | null {
  try {
    return latentGrid(strip, "reference", processor);
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}

function tokensOf({ question, cot, answer }: Sample, prompting: Prompting): SampleTokens {
  const markers = markersOf(prompting);
  return {
    question: questionTokens(prompting, question, markers),
    chain: prompting.tokenizer.encode(cot).length,
    answer: answerTokens(prompting, answer, markers),
  };
}

/** Ids for the markers, which no tokenizer has: those after its last. Training gives them rows of their own. */
export function markersOf({ tokenizer }: Prompting): Markers {
  return { begin: tokenizer.size, end: tokenizer.size + 1 };
}

/** Code points, as Python counts: an emoji is one. */
function characters(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) count += (text.charCodeAt(i) & 0xfc00) === 0xdc00 ? 0 : 1;
  return count;
}

/** Runs of what is no whitespace; whitespace is what Python's `split()` takes for it: four separators more than Unicode. */
function words(text: string): number {
  // oxlint-disable-next-line no-control-regex
  return text.match(/[^\p{White_Space}\x1c-\x1f]+/gu)?.length ?? 0;
}
