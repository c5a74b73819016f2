/** What an evaluation says of one answer, and of all of them. Names are the published ones where there are such. */
import type { Sample } from "../data/sample.ts";
import type { Arm } from "./ablations.ts";
import { type Interval, meanOf, seedInterval, wilsonInterval } from "./statistics.ts";

/** One answer. */
export interface Row {
  readonly id: Sample["id"];
  /** Whose latents the answer follows. */
  readonly arm: Arm;
  readonly seed: number;
  readonly question: string;
  readonly cot: string;
  readonly ground_truth: string;
  /** All that was written; `ERROR: …` where nothing could be. */
  readonly prediction: string;
  /** The answer found in it. Missing where answers are not scored, like {@link is_correct}. */
  readonly predicted_answer?: string | null;
  readonly is_correct?: boolean;
  /** #L: latents, or of a text model tokens of its chain; null of a failed sample. */
  readonly latents: number | null;
  /** In what the model reasons: what is counted above is part of the tokens below where it is text. */
  readonly reasoning: "latents" | "text";
  /** Tokens that were written, the stop token aside. */
  readonly tokens: number;
  /** Why the answer ended: at its stop token, for lack of room, or not at all. */
  readonly finish: "stop" | "length" | "error";
  /** The sample's share of the time of its batch. */
  readonly seconds: number;
  /** Text tokens of the chain to the latents that it becomes when it is drawn; null where it is not known. */
  readonly compression_ratio: number | null;
  /** Text tokens of the chain to the latents that were used; null where none were. */
  readonly used_ratio: number | null;
}

/** What the answers of an arm come to. */
export interface ArmSummary {
  /** Answers of one seed. */
  readonly total: number;
  /** Samples that could not be answered; they count as wrong. Of the first seed. */
  readonly failed: number;
  /** #L: mean latents, or tokens of the chain. */
  readonly latents: number;
  readonly seconds_per_sample: number;
  /** Latents and tokens together. */
  readonly tokens_per_second: number;
  /** Answers that ended with their stop token, in percent. */
  readonly stopped: number;
  readonly score?: Score;
}

/** Pass@1 in percent. */
export interface Score {
  /** Of all seeds. */
  readonly correct: number;
  readonly pass_at_1: number;
  /** 95 % confidence: over the seeds where there are several, else Wilson's for the samples. */
  readonly interval: Interval;
  readonly interval_of: "seeds" | "samples";
  /** Percentage points a latent; null without latents. */
  readonly pass_at_1_per_latent: number | null;
  readonly by_seed: Readonly<Record<string, number>>;
}

/** What chains become as pictures, over samples that have one. */
export interface CompressionSummary {
  readonly avg_compression_ratio: number;
  readonly avg_saved_percentage: number;
  /** The first for the latents that were used; null where none were. */
  readonly avg_used_ratio: number | null;
}

/** All arms. The first four are of the model's own latents, under the published names. */
export interface Summary {
  readonly accuracy?: number;
  readonly correct?: number;
  readonly total: number;
  readonly compression: CompressionSummary | null;
  readonly arms: Readonly<Partial<Record<Arm, ArmSummary>>>;
}

/** Adds rows up. */
export function summarize(rows: readonly Row[]): Summary {
  const arms: Partial<Record<Arm, ArmSummary>> = {};
  for (const arm of new Set(rows.map((row) => row.arm)))
    arms[arm] = summarizeArm(rows.filter((row) => row.arm === arm));
  const own = rows.filter((row) => row.arm === "own");
  const scored = own.filter((row) => row.is_correct !== undefined);
  return {
    ...(scored.length > 0 && {
      accuracy: scored.filter((row) => row.is_correct).length / scored.length,
      correct: scored.filter((row) => row.is_correct).length,
    }),
    total: own.length,
    compression: summarizeCompression(own),
    arms,
  };
}

function summarizeArm(rows: readonly Row[]): ArmSummary {
  const seeds = [...new Set(rows.map(({ seed }) => seed))];
  const ofFirst = rows.filter(({ seed }) => seed === seeds[0]);
  const latents = meanOf(rows.flatMap((row) => row.latents ?? []));
  const seconds = rows.reduce((sum, row) => sum + row.seconds, 0);
  const made = rows.reduce((sum, row) => sum + row.tokens + (row.reasoning === "text" ? 0 : (row.latents ?? 0)), 0);
  const isScored = rows.some((row) => row.is_correct !== undefined);
  return {
    total: ofFirst.length,
    failed: ofFirst.filter(({ finish }) => finish === "error").length,
    latents,
    seconds_per_sample: seconds / rows.length,
    tokens_per_second: seconds > 0 ? made / seconds : 0,
    stopped: (100 * rows.filter(({ finish }) => finish === "stop").length) / rows.length,
    ...(isScored && { score: scoreOf(rows, seeds, latents) }),
  };
}

function scoreOf(rows: readonly Row[], seeds: readonly number[], latents: number): Score {
  const rates = seeds.map((seed) => {
    const own = rows.filter((row) => row.seed === seed);
    return (100 * own.filter((row) => row.is_correct).length) / own.length;
  });
  const correct = rows.filter((row) => row.is_correct).length;
  const pass = meanOf(rates);
  return {
    correct,
    pass_at_1: pass,
    interval: seeds.length > 1 ? seedInterval(rates) : wilsonInterval(correct, rows.length),
    interval_of: seeds.length > 1 ? "seeds" : "samples",
    pass_at_1_per_latent: latents > 0 ? pass / latents : null,
    by_seed: Object.fromEntries(seeds.map((seed, i) => [seed, rates[i] as number])),
  };
}

function summarizeCompression(rows: readonly Row[]): CompressionSummary | null {
  const ratios = rows.flatMap((row) => row.compression_ratio ?? []);
  if (ratios.length === 0) return null;
  const used = rows.flatMap((row) => row.used_ratio ?? []);
  return {
    avg_compression_ratio: meanOf(ratios),
    avg_saved_percentage: meanOf(ratios.map((ratio) => 100 * (1 - 1 / ratio))),
    avg_used_ratio: used.length > 0 ? meanOf(used) : null,
  };
}
