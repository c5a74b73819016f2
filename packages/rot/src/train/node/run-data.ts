/** Rows of a dataset as samples to train on: tokens, and targets made when they are needed. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { ImageProcessor, VisionLanguageModel } from "@rot/models";
import { key, scope, tensor } from "@rot/tensor";
import type { RunConfig } from "../../config/schema.ts";
import { parseMap } from "../../data/formats.ts";
import { readDataset } from "../../data/node/read-dataset.ts";
import { type BadRow, DatasetError, type Sample } from "../../data/sample.ts";
import { split } from "../../data/split.ts";
import { syntheticSamples } from "../../data/synthetic.ts";
import { computeTargets, type TargetOptions, type Targets } from "../../data/target-cache/targets.ts";
import type { SampleTokens } from "../../latent/batch.ts";
import {
  answerTokens,
  type Markers,
  questionTokens,
  type TextModel,
  textSampleTokens,
} from "../../methods/rot/prompt.ts";
import type { TrainingData } from "../../methods/rot/task.ts";
import { FontError } from "../../render/error.ts";
import { Font } from "../../render/font.ts";
import { dejaVuSans } from "../../render/node/index.ts";
import { createRenderer, type Renderer } from "../../render/strip.ts";
import { type Encoding, latentGrid } from "../../render/vision.ts";

/** What was read for a run. */
export interface RunData {
  readonly train: readonly Sample[];
  readonly validation: readonly Sample[];
  /** Rows left out because they could not be read. */
  readonly bad: readonly BadRow[];
  /** SHA-256 of all samples, for the manifest. */
  readonly hash: string;
}

/**
 * Reads the dataset of a run and splits it.
 *
 * @throws {DatasetError} when it cannot be read, or no row is left to train on
 */
export async function readRunData({ data, seed }: RunConfig): Promise<RunData> {
  const limit = data.max_samples === null ? {} : { limit: data.max_samples };
  const read =
    data.dataset === "synthetic"
      ? {
          samples: syntheticSamples(key(seed).for("synthetic"), 0, data.max_samples ?? data.synthetic_samples),
          bad: [],
        }
      : await readDataset(data.dataset, {
          ...limit,
          ...(data.format !== null && { format: data.format }),
          ...(data.map !== null && { map: parseMap(data.map) }),
          onBadRow: data.on_bad_row,
          stripCalculator: data.strip_calculator,
        });
  const { train, validation } = split(read.samples, data.validation_share, seed);
  if (train.length === 0) {
    throw new DatasetError(
      `${data.dataset}: all ${read.samples.length} rows went to validation and none is left to train on; lower data.validation_share (${data.validation_share})`,
    );
  }
  const hash = createHash("sha256");
  for (const sample of read.samples) hash.update(JSON.stringify(sample));
  return { train, validation, bad: read.bad, hash: hash.digest("hex") };
}

/** The renderer that a configuration describes. */
export async function openRenderer({ rendering }: RunConfig): Promise<Renderer> {
  const own = await dejaVuSans();
  const fonts = rendering.font === null ? [own] : [await openFont(rendering.font), own];
  return createRenderer({
    fonts,
    fontSize: rendering.font_size,
    height: rendering.height,
    padding: rendering.padding,
    thoughtMarkers: rendering.thought_markers,
  });
}

async function openFont(path: string): Promise<Font> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new FontError(`rendering.font: ${path} cannot be read: ${error.message}`);
  });
  return await Font.open(bytes, path);
}

/** Samples that fit, those that do not, and the latents of each. */
export interface Prepared extends TrainingData {
  /** Samples whose question, latents and answer are longer than allowed. */
  readonly tooLong: readonly Sample["id"][];
}

/** What targets are made with. */
export interface Teacher {
  readonly model: VisionLanguageModel;
  readonly processor: ImageProcessor;
  readonly renderer: Renderer;
  readonly encoding: Encoding;
  readonly cache?: NonNullable<TargetOptions["cache"]>;
}

/**
 * Samples for stages 1 and 2.
 *
 * @throws the signal's reason when it ends the work
 */
export async function prepareLatent(
  samples: readonly Sample[],
  text: TextModel,
  markers: Markers,
  teacher: Teacher,
  { data, stage2 }: RunConfig,
  signal?: AbortSignal,
): Promise<Prepared> {
  const kept: Sample[] = [];
  const tokens: SampleTokens[] = [];
  const counts: number[] = [];
  const tooLong: Sample["id"][] = [];
  for (const [i, sample] of samples.entries()) {
    if (i % AT_ONCE === 0) await breathe(signal);
    const made = {
      question: questionTokens(text, sample.question, markers),
      answer: answerTokens(text, sample.answer, markers, stage2.answer_style),
    };
    const latents = latentCount(sample.cot, teacher);
    if (made.question.length + latents + made.answer.length > data.max_length) tooLong.push(sample.id);
    else {
      kept.push(sample);
      tokens.push(made);
      counts.push(latents);
    }
  }
  return { samples: tokens, counts, tooLong, targets: targetsOf(kept, teacher) };
}

/** The latents of a chain. */
const latentCount = (chain: string, { renderer, processor, encoding }: Teacher): number =>
  latentGrid(renderer.strip(chain), encoding, processor).tokens;

/** Targets that stay on the host: 1,024 of 60 latents of 2,560 numbers are 0.6 GB. */
const MOST_KNOWN = 1024;

/** The targets of samples, made when they are first asked for. The latest stay on the host: an epoch of a small dataset. */
function targetsOf(samples: readonly Sample[], { model, renderer, ...options }: Teacher): TrainingData["targets"] {
  const known = new Map<number, Targets>();
  return async (numbers) => {
    const wanted = [...new Set(numbers)].filter((n) => !known.has(n));
    const chains = wanted.map((n) => (samples[n] as Sample).cot);
    const made = await computeTargets(model, renderer, chains, options);
    for (const [i, n] of wanted.entries()) known.set(n, made[i] as Targets);
    // One scope, so that none stays when there is no room for all.
    const tensors = scope(() =>
      numbers.map((n) => {
        const { rows, columns, data } = known.get(n) as Targets;
        return tensor(model.device, data, { shape: [rows, columns] });
      }),
    );
    for (const n of known.keys()) if (known.size > MOST_KNOWN) known.delete(n);
    return tensors;
  };
}

/** Samples prepared without looking up. */
const AT_ONCE = 64;

/** Lets signals arrive. */
async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await new Promise(setImmediate);
  signal?.throwIfAborted();
}

/**
 * Samples for supervised text.
 *
 * @throws the signal's reason when it ends the work
 */
export async function prepareText(
  samples: readonly Sample[],
  text: TextModel,
  { data, training }: RunConfig,
  signal?: AbortSignal,
): Promise<Prepared> {
  const tokens: SampleTokens[] = [];
  const tooLong: Sample["id"][] = [];
  for (const [i, sample] of samples.entries()) {
    if (i % AT_ONCE === 0) await breathe(signal);
    const made = textSampleTokens(text, sample, training.chain);
    if (made.question.length + made.answer.length > data.max_length) tooLong.push(sample.id);
    else tokens.push(made);
  }
  return { samples: tokens, counts: tokens.map(() => 0), tooLong, targets: () => Promise.resolve([]) };
}
