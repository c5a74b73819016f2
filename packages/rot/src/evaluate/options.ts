/** What is evaluated, and how. */
import type { ChatTemplate, Tokenizer, VisionLanguageModel } from "@rot/models";
import type { LatentPolicy } from "../bundle/config.ts";
import type { Sample } from "../data/sample.ts";
import type { LatentSource } from "../latent/rollout.ts";
import type { Markers } from "../methods/rot/prompt.ts";
import type { Arm } from "./ablations.ts";
import type { AnswerRule } from "./answers.ts";

/** What is evaluated; an opened bundle has it all. */
export interface Subject {
  readonly model: VisionLanguageModel;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** Null for a model that reasons in text, or not at all. */
  readonly latents: { readonly source: LatentSource; readonly markers: Markers; readonly policy: LatentPolicy } | null;
  /** Of a text model: whether it writes its chain before its answer. */
  readonly chain: boolean;
  /** The tokens that end an answer. */
  readonly stop: readonly number[];
}

/** A chain in numbers. */
export interface Measured {
  /** As text. */
  readonly tokens: number;
  /** As a picture. */
  readonly latents: number;
}

/** How it is evaluated. */
export interface EvaluateOptions {
  readonly arms: readonly Arm[];
  /** Answers are drawn once for each; more than one needs a temperature. */
  readonly seeds: readonly number[];
  readonly batchSize: number;
  readonly maxNewTokens: number;
  /** 0 takes the likeliest tokens. */
  readonly temperature: number;
  readonly topP: number;
  /** How answers are scored; null: not at all. */
  readonly rule: AnswerRule | null;
  /** Measures the chain of a sample; null where it cannot be drawn. */
  readonly measure?: (cot: string) => Measured | null;
  /** Samples whose answers are there already. */
  readonly done?: ReadonlySet<Sample["id"]>;
}
