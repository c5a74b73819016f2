/** Samples to files: processed rows, statistics, a text report, a page, pictures. */
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { UsageError } from "@rot/tensor";
import { encodePng } from "../../../render/node/png.ts";
import { writePicture } from "../../../render/node/write-picture.ts";
import type { Strip } from "../../../render/strip.ts";
import type { Encoding } from "../../../render/vision.ts";
import { type BadRow, DatasetError, listRows, type Sample } from "../../sample.ts";
import { Numbers, sequenceLength, type Statistics } from "../collect.ts";
import { type Measure, type Measured, measure } from "../measure.ts";
import { preprocessPage, type Shown, shownOf } from "../page.ts";
import { type About, reportText } from "../report-text.ts";
import { WholeFile } from "./whole-file.ts";

/** What is made of samples, and where. */
export interface PreprocessOptions extends About, Measure {
  readonly outputFolder: string;
  readonly encoding: Encoding;
  /** Tokens of question, latents and answer together at most; needs a tokenizer. */
  readonly maxLength?: number | undefined;
  /** What a row does that is too long: end the work with an error that lists them all, or be left out and counted. */
  readonly onBadRow: "fail" | "skip";
  /** Rows that were left out before, when the samples were read. */
  readonly bad?: readonly BadRow[];
  /** Pictures to write, at most. */
  readonly pictures?: number;
  /** Rows that the page shows in full, at most 200; no page where it is not given. */
  readonly preview?: number | undefined;
  readonly onProgress?: (step: { readonly done: number; readonly total: number }) => void;
}

/** What was made. */
export interface Preprocessed {
  readonly statistics: Statistics;
  /** The rows, the statistics, the report and the page. */
  readonly files: readonly string[];
  readonly pictures: number;
}

const EXTREMES = 3;
const MOST_PREVIEWED = 200;
/** Rows between two turns of the event loop, so that signals and writes are heard. */
const ROWS_A_TURN = 32;
const namePattern = /^[\p{L}\p{N}][\p{L}\p{N}._-]*$/u;
const LONGEST_NAME = 100;

/**
 * Measures samples and writes all about them. Each file is whole or not there; the rows come last, when the rest is at its place.
 *
 * @throws {UsageError} when a name cannot be part of a file's name, a length is asked for without a tokenizer, or a preview
 *   of too many rows
 * @throws {DatasetError} when rows are too long and `onBadRow` is `fail`, or none is left
 */
export async function preprocess(samples: readonly Sample[], options: PreprocessOptions): Promise<Preprocessed> {
  const { dataset, split, outputFolder, preview, prompting, bad = [] } = options;
  for (const name of [dataset, split]) {
    if (!namePattern.test(name) || Buffer.byteLength(name) > LONGEST_NAME) {
      throw new UsageError(
        `${JSON.stringify(name.slice(0, LONGEST_NAME))} cannot name files: letters, digits, dots, dashes and underscores can, ${LONGEST_NAME} bytes at most`,
      );
    }
  }
  if (options.maxLength !== undefined && !prompting) {
    throw new UsageError("a greatest length is counted in tokens: give a model, whose tokenizer counts them");
  }
  if (preview !== undefined && preview > MOST_PREVIEWED) {
    throw new UsageError(`a page shows ${MOST_PREVIEWED} rows in full at most, not ${preview}`);
  }
  const path = (ending: string): string => join(outputFolder, `${dataset}_${split}_${ending}`);
  const rows = await WholeFile.create(path("processed.jsonl"));
  const texts: WholeFile[] = [];
  try {
    const measured = await measureAll(samples, options, rows);
    const statistics = measured.numbers.statistics([...bad, ...measured.bad]);
    const add = async (ending: string, text: string): Promise<void> => {
      const file = await WholeFile.create(path(ending));
      texts.push(file);
      await file.write(text);
    };
    await add("stats.json", `${JSON.stringify(statistics, null, 2)}\n`);
    await add("report.txt", reportText(options, statistics, measured.numbers.rendered));
    if (preview !== undefined) {
      // Measured once more: strips may be large, so none is kept while the others are measured.
      const show = (some: readonly Sample[]): Shown[] => some.map((one) => shownOf(one, measure(one, options)));
      const [widest, narrowest, first] = [show(measured.widest), show(measured.narrowest), show(measured.preview)];
      const { numbers } = measured;
      const page = { ...options, numbers, widest, narrowest, preview: first, statistics, picture: pictureAddress };
      await add("report.html", preprocessPage(page));
    }
    const files = [...texts, rows];
    for (const file of files) await file.finish();
    for (const file of files) await file.commit();
    return { statistics, files: files.map((file) => file.path), pictures: measured.pictures };
  } finally {
    for (const file of [...texts, rows]) await file.discard();
  }
}

interface AllMeasured {
  readonly numbers: Numbers;
  readonly widest: readonly Sample[];
  readonly narrowest: readonly Sample[];
  readonly preview: readonly Sample[];
  readonly bad: readonly BadRow[];
  readonly pictures: number;
}

async function measureAll(
  samples: readonly Sample[],
  options: PreprocessOptions,
  rows: WholeFile,
): Promise<AllMeasured> {
  const numbers = new Numbers(options.encoding);
  const widest = new Extremes((a, b) => b.width - a.width);
  const narrowest = new Extremes((a, b) => a.width - b.width);
  const preview: Sample[] = [];
  const bad: BadRow[] = [];
  let pictures = 0;
  for (const [i, sample] of samples.entries()) {
    if (i % ROWS_A_TURN === 0) {
      options.onProgress?.({ done: i, total: samples.length });
      await setImmediate();
    }
    const measured = fitting(sample, options);
    if ("reason" in measured) {
      bad.push(measured);
      continue;
    }
    numbers.add(measured);
    const one = { sample, width: measured.strip.width };
    widest.offer(one);
    narrowest.offer(one);
    if (preview.length < (options.preview ?? 0)) preview.push(sample);
    let picture: string | undefined;
    if (pictures < (options.pictures ?? 0)) {
      picture = `rendered_images/${options.dataset}/${options.split}_${String(i).padStart(5, "0")}.png`;
      await writePicture(join(options.outputFolder, picture), encodePng(measured.strip), { replace: true });
      pictures++;
    }
    await rows.write(`${JSON.stringify(processedRow(sample, measured, options.encoding, picture))}\n`);
  }
  options.onProgress?.({ done: samples.length, total: samples.length });
  const left = samples.length - bad.length;
  if ((bad.length > 0 && options.onBadRow === "fail") || left === 0) {
    const mend = left === 0 ? "" : " (leave them out with --on-bad-row skip)";
    throw new DatasetError(
      `${options.dataset} ${options.split}: ${bad.length} of ${samples.length} rows cannot be trained on${mend}:\n${listRows(bad)}`,
      bad,
    );
  }
  return { numbers, widest: widest.found, narrowest: narrowest.found, preview, bad, pictures };
}

/** The sample measured, or why it cannot be trained on. */
function fitting(sample: Sample, options: PreprocessOptions): Measured | BadRow {
  const place = `row with the id ${JSON.stringify(sample.id).slice(0, 60)}`;
  let measured: Measured;
  try {
    measured = measure(sample, options);
  } catch (error) {
    if (error instanceof UsageError) return { place, reason: `its chain cannot be drawn: ${error.message}` };
    throw error;
  }
  const { maxLength } = options;
  const { tokens } = measured;
  if (maxLength === undefined || !tokens) return measured;
  const length = sequenceLength(measured, options.encoding);
  if (length <= maxLength) return measured;
  const masked = length - tokens.answer.length >= maxLength;
  return {
    place,
    reason: `it is ${length} tokens long, ${maxLength} at most${masked ? "; nothing would be left of its answer to learn" : ""}`,
  };
}

/** A row of the processed file: the reference's fields. `rendered_image_path` counts from the file's folder. */
function processedRow(
  { id, question, cot, answer }: Sample,
  measured: Measured,
  encoding: Encoding,
  picture: string | undefined,
) {
  const grid = measured[encoding];
  return {
    id,
    question,
    cot,
    answer,
    cot_char_length: measured.characters,
    cot_word_count: measured.words,
    can_render_completely: grid !== null,
    estimated_lines: grid?.rows ?? 0,
    vision_tokens: grid?.tokens ?? null,
    ...(picture !== undefined && { rendered_image_path: picture }),
  };
}

interface Wide {
  readonly sample: Sample;
  readonly width: number;
}

/** The first few of rows by an order; of equals, those that came first. */
class Extremes {
  #found: Wide[] = [];
  readonly #order: (a: Wide, b: Wide) => number;

  constructor(order: (a: Wide, b: Wide) => number) {
    this.#order = order;
  }

  offer(one: Wide): void {
    const last = this.#found.at(-1);
    if (this.#found.length >= EXTREMES && last && this.#order(one, last) >= 0) return;
    this.#found = [...this.#found, one].toSorted(this.#order).slice(0, EXTREMES);
  }

  get found(): readonly Sample[] {
    return this.#found.map(({ sample }) => sample);
  }
}

const pictureAddress = (strip: Strip): string =>
  `data:image/png;base64,${Buffer.from(encodePng(strip)).toString("base64")}`;
