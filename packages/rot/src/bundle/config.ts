/** `bundle.json`: how the other files of a checkpoint become a model that reasons. */
import { WeightError } from "@rot/tensor";
import { z } from "zod";
import type { RunConfig } from "../config/schema.ts";
import { type HeadConfig, headActivations } from "../methods/rot/head.ts";
import type { AnswerStyle } from "../methods/rot/prompt.ts";
import { type Encoding, encodings } from "../render/vision.ts";

/** A checkpoint that cannot be opened as a model: what is missing or wrong, and what to do. */
export class BundleError extends WeightError {
  override readonly name = "BundleError";
}

/** What was trained. `base` is a plain model's folder, which no checkpoint says. */
const bundleModes = ["stage1", "lora", "full", "lm-head", "sft", "base"] as const;
export type BundleMode = (typeof bundleModes)[number];

/** How many latents a question gets: always so many, or until the model says that they end. */
export type LatentPolicy =
  | { readonly budget: number }
  | {
      /** The most it gets. */
      readonly max: number;
      /** Also ends at a latent as near as this to the embedding of `<img_end>`: the root mean square of the difference. */
      readonly threshold?: number | undefined;
    };

/** Which model the files go on, as far as it can be recognised. */
export interface BaseRecord {
  /** As it was given to the trainer. */
  readonly path: string;
  /** SHA-256 of its configuration, as it is understood here. */
  readonly config: string;
  /** SHA-256 of the names, dtypes, shapes and first bytes of its tensors, however they are dealt out to files. */
  readonly weights: string;
}

/** The tokens around the latents, and the rows they have in the token tables. */
export interface MarkerRecord {
  /** Whether the base's tokenizer has them itself; otherwise their rows are in `markers.safetensors`. */
  readonly own: boolean;
  readonly begin: number;
  readonly end: number;
  /** Rows of the token tables. */
  readonly vocabulary: number;
  /** Whether they learnt: then they are in `markers.safetensors` though the base's tokenizer has them. */
  readonly trained?: boolean | undefined;
}

/** How chains were drawn and encoded. */
export interface StripRecord {
  /** Whole cells as they were drawn, or through both resizes of the published code. */
  readonly encoding: Encoding;
  readonly fontSize: number;
  readonly height: number;
  readonly padding: number;
  readonly thoughtMarkers: boolean;
  readonly newlines: "space" | "keep";
  readonly engine: "shaped" | "basic";
}

/** The paper's strips. */
export const paperStrips: StripRecord = {
  encoding: "exact",
  fontSize: 20,
  height: 32,
  padding: 4,
  thoughtMarkers: true,
  newlines: "space",
  engine: "shaped",
};

/** How a run draws chains; `published`: by the engine of the published code, which keeps line breaks and does not shape. */
export const stripRecord = ({ rendering }: Pick<RunConfig, "rendering">, published = false): StripRecord => ({
  encoding: rendering.encoding,
  fontSize: rendering.font_size,
  height: rendering.height,
  padding: rendering.padding,
  thoughtMarkers: rendering.thought_markers,
  newlines: published ? "keep" : "space",
  engine: published ? "basic" : "shaped",
});

/** All that `bundle.json` says. */
export interface BundleConfig {
  readonly mode: BundleMode;
  readonly base: BaseRecord;
  /** Null for text: supervised fine-tuning, and plain models. */
  readonly markers: MarkerRecord | null;
  /** Null where hidden states are the latents themselves, or there are none. */
  readonly head: HeadConfig | null;
  /** What generation does unless it is told otherwise; null where there are no latents. */
  readonly latents: LatentPolicy | null;
  readonly answerStyle: AnswerStyle;
  /** Of a text model: whether it writes its chain before its answer. */
  readonly chain: boolean;
  readonly strips: StripRecord;
}

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z
  .int()
  .nonnegative()
  .max(2 ** 24);
const pixels = z.int().nonnegative().max(65_536);

const schema = z.strictObject({
  format: z.literal(1),
  mode: z.enum(bundleModes).exclude(["base"]),
  base: z.strictObject({ path: z.string().min(1).max(4096), config: hash, weights: hash }),
  markers: z
    .strictObject({
      own: z.boolean(),
      begin: count,
      end: count,
      vocabulary: count.min(1),
      trained: z.boolean().optional(),
    })
    .refine(({ begin, end, vocabulary }) => begin !== end && Math.max(begin, end) < vocabulary, {
      error: "begin and end are not two rows of the vocabulary",
    })
    .nullable(),
  head: z.strictObject({ width: count.min(1), hidden: count.min(1), activation: z.enum(headActivations) }).nullable(),
  latents: z
    .union([
      z.strictObject({ budget: count }),
      z.strictObject({ max: count, threshold: z.number().nonnegative().optional() }),
    ])
    .nullable(),
  answerStyle: z.enum(["explicit", "reference"]),
  chain: z.boolean(),
  strips: z.strictObject({
    encoding: z.enum(encodings),
    fontSize: z.number().positive().max(65_536),
    height: pixels.min(1),
    padding: pixels,
    thoughtMarkers: z.boolean(),
    newlines: z.enum(["space", "keep"]),
    engine: z.enum(["shaped", "basic"]),
  }),
});

/**
 * Reads `bundle.json`.
 *
 * @param json  the parsed file
 * @param file  what messages call it
 * @throws {BundleError} naming the field that is wrong
 */
export function parseBundleConfig(json: unknown, file: string): BundleConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new BundleError(`${file}: ${issue?.path.join(".").slice(0, 80) || "it"}: ${issue?.message.slice(0, 300)}`);
  }
  const { format: _, ...config } = parsed.data;
  if ((config.markers === null) !== (config.latents === null)) {
    throw new BundleError(
      `${file}: it has ${config.markers ? "markers" : "latents"} without ${config.markers ? "latents" : "markers"}`,
    );
  }
  return config;
}

/** The text of `bundle.json`. */
export const printBundleConfig = (config: BundleConfig): string =>
  `${JSON.stringify({ format: 1, ...config }, null, 2)}\n`;
