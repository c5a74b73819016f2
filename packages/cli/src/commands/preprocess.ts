/** `rot-cli preprocess`: a dataset to training rows, statistics, a report and a page to look at. */
import { readdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { ImageProcessor } from "@rot/models";
import { loadChatTemplate, loadImageProcessor, loadTokenizer } from "@rot/models/node";
import { type Encoding, type FieldMap, formats, type Sample, split, syntheticSamples } from "@rot/rot";
import { type Dataset, preprocess as write, readDataset } from "@rot/rot/node";
import { createRenderer } from "@rot/rot/render";
import { dejaVuSans } from "@rot/rot/render/node";
import { key, UsageError } from "@rot/tensor";
import { Command, InvalidArgumentError, Option } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";
import { fieldMap, whole } from "../flags.ts";
import type { Output } from "../program.ts";
import { progress } from "../progress.ts";

interface Flags {
  readonly dataset?: string;
  readonly split: string;
  readonly data_root?: string;
  readonly input?: string;
  readonly format?: string;
  readonly map?: FieldMap;
  readonly stripCalculator?: boolean;
  readonly onBadRow: "fail" | "skip";
  readonly limit?: number;
  readonly count: number;
  readonly seed: number;
  readonly validationShare: number;
  readonly output_dir: string;
  readonly save_images?: boolean;
  readonly max_save_images: number;
  readonly image_size?: string;
  readonly font_size: number;
  readonly height: number;
  readonly padding: number;
  readonly encoding: Encoding;
  readonly model?: string;
  readonly maxLength?: number;
  readonly html: boolean;
  readonly preview: number;
  readonly json?: boolean;
}

/** Of the published Qwen3-VL checkpoints; counts latents where no `--model` is given. */
const publishedProcessor = {
  minPixels: 65_536,
  maxPixels: 16_777_216,
  patchSize: 16,
  temporalPatchSize: 2,
  mergeSize: 2,
  imageMean: [0.5, 0.5, 0.5],
  imageStd: [0.5, 0.5, 0.5],
  rescaleFactor: 1 / 255,
} as const;

const endings = [".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt"];

/** The command. The flags with underscores are those of the reference's script. */
export function preprocess(output: Output): Command {
  const names = formats().map(({ name }) => name);
  return new Command("preprocess")
    .description(
      "read a dataset, measure every row, and write training rows, statistics, a report and a page to look at",
    )
    .option("--dataset <name>", "which dataset: a folder in --data_root, or synthetic; with --input only its name")
    .option("--split <name>", "which part of it", "train")
    .option(
      "--data_root <folder>",
      "where DATASET/SPLIT.jsonl lies, or .json, .csv, .parquet, .txt, or DATASET/DATASET.json",
    )
    .option("-i, --input <file>", "read this file instead")
    .addOption(new Option("--format <name>", "the form of its rows; found from the first row otherwise").choices(names))
    .option(
      "--map <fields>",
      "rows of another form: question=FIELD,cot=FIELD,answer=FIELD and perhaps id=FIELD",
      fieldMap,
    )
    .option("--strip-calculator", "remove the marks <<48/2=24>> of a calculator")
    .addOption(
      new Option("--on-bad-row <what>", "rows that are damaged or too long: stop and list them, or leave them out")
        .choices(["fail", "skip"])
        .default("fail"),
    )
    .option("--limit <rows>", "read no more rows than this", whole(1))
    .option("--count <rows>", "how many synthetic rows", whole(1), 1000)
    .option("--seed <number>", "of synthetic rows and of the validation rows", whole(0), 42)
    .option("--validation-share <share>", "set aside this share of the rows as the split named validation", share, 0)
    .option("--output_dir <folder>", "where to write; files of the same names are replaced", "data/processed")
    .option("--save_images", "write the strips as PNG files too")
    .option("--max_save_images <number>", "at most so many of them", whole(0), 100_000)
    .option("--image_size <pixels>", "accepted, without effect: a strip is as wide as its text")
    .option("--font_size <pixels>", "pixels an em", whole(1), 20)
    .option("--height <pixels>", "height of the strip", whole(1), 32)
    .option("--padding <pixels>", "empty pixels left and right of the text", whole(0), 4)
    .addOption(
      new Option("--encoding <name>", "a strip cut as it was drawn, or resized as the reference does")
        .choices(["exact", "reference"])
        .default("exact"),
    )
    .option("--model <folder>", "a checkpoint, whose tokenizer counts tokens and whose image processor counts latents")
    .option("--max-length <tokens>", "the longest question, latents and answer together; needs --model", whole(1))
    .addOption(new Option("--html", "write the page").default(true))
    .option("--no-html", "do not write the page")
    .option("--preview <rows>", "how many rows the page shows in full, at most 200", whole(0), 5)
    .option("--json", "print the statistics as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli preprocess --dataset synthetic --count 5000 --output_dir data/processed\n" +
        "  rot-cli preprocess --dataset gsm8k --split train --data_root data --save_images --max_save_images 10\n" +
        "  rot-cli preprocess --input rows.parquet --map question=prompt,cot=rationale,answer=target --on-bad-row skip\n",
    )
    .action((flags: Flags) => run(flags, output));
}

async function run(flags: Flags, output: Output): Promise<void> {
  if (flags.image_size !== undefined) output.err("--image_size has no effect: a strip is as wide as its text\n");
  if (flags.maxLength !== undefined && flags.model === undefined) {
    throw new UsageError("--max-length counts tokens: add --model FOLDER, whose tokenizer counts them");
  }
  const dataset = flags.dataset ?? (flags.input === undefined ? "gsm8k" : nameOf(flags.input));
  const measure = await openMeasure(flags);
  const { samples, bad } = await read(dataset, flags);
  const parts = partsOf(samples, flags);
  const all: Record<string, unknown> = {};
  for (const [i, [name, part]] of parts.entries()) {
    const report = progress(output, { label: `preprocess ${name}`, unit: "rows" });
    const { statistics, files, pictures } = await write(part, {
      ...measure,
      dataset,
      split: name,
      outputFolder: flags.output_dir,
      encoding: flags.encoding,
      maxLength: flags.maxLength,
      onBadRow: flags.onBadRow,
      bad: i === 0 ? bad : [],
      pictures: flags.save_images ? flags.max_save_images : 0,
      preview: flags.html ? flags.preview : undefined,
      onProgress: (step) => report.update(step),
    });
    report.finish();
    all[name] = statistics;
    const { count: skipped, rows } = statistics.skipped;
    if (skipped > 0) {
      output.err(`${skipped} rows are left out:\n`);
      for (const { place, reason } of rows.slice(0, 10)) output.err(`  ${place}: ${reason}\n`);
      if (skipped > 10) output.err(`  and ${skipped - 10} more\n`);
    }
    const { reference_too_wide: wide } = statistics.vision_tokens;
    if (flags.encoding === "reference" && wide > 0) {
      output.err(`${wide} rows are kept that the reference's encoding refuses: their strips are too wide for it\n`);
    }
    if (flags.json) continue;
    const { mean, median, percentile_95, max } = statistics.vision_tokens[flags.encoding];
    output.out(
      `${name}: ${statistics.total_samples} rows; latents: mean ${mean.toFixed(1)}, median ${median}, 95 % ${percentile_95.toFixed(1)}, max ${max}\n`,
    );
    for (const file of files) output.out(`${file}\n`);
    if (pictures > 0) output.out(`${pictures} pictures in ${join(flags.output_dir, "rendered_images", dataset)}\n`);
  }
  if (flags.json) output.out(`${JSON.stringify(parts.length === 1 ? all[flags.split] : all, null, 2)}\n`);
}

async function openMeasure({ model, font_size: fontSize, height, padding }: Flags) {
  const renderer = await createRenderer({ fonts: [await dejaVuSans()], fontSize, height, padding });
  if (model === undefined) return { renderer, processor: new ImageProcessor(publishedProcessor) };
  // One after the other: of a folder without any, the first error should always be the same.
  const tokenizer = await loadTokenizer(model);
  const processor = await loadImageProcessor(model);
  return { renderer, processor, prompting: { tokenizer, template: await loadChatTemplate(model, tokenizer) } };
}

async function read(dataset: string, flags: Flags): Promise<Pick<Dataset, "samples" | "bad">> {
  if (dataset === "synthetic" && flags.input === undefined) {
    const rows = Math.min(flags.count, flags.limit ?? Infinity);
    return { samples: syntheticSamples(key(flags.seed).for(`synthetic.${flags.split}`), 0, rows), bad: [] };
  }
  const { format, map, limit, stripCalculator = false, onBadRow } = flags;
  return readDataset(flags.input ?? (await find(dataset, flags)), {
    stripCalculator,
    onBadRow,
    ...(format !== undefined && { format }),
    ...(map && { map }),
    ...(limit !== undefined && { limit }),
  });
}

/** The file of a dataset: `DATASET/SPLIT.*`, or for those in one file `DATASET/DATASET.*`; upper and lower case are one. */
async function find(dataset: string, { data_root: root, split: name }: Flags): Promise<string> {
  if (root === undefined) {
    throw new UsageError(
      `where is ${dataset}? Add --data_root FOLDER, which holds ${dataset}/${name}.jsonl, or --input FILE; or take --dataset synthetic`,
    );
  }
  const folder = join(root, dataset);
  const found = await readdir(folder).catch((error: unknown) => {
    throw new ExitError(`${folder} cannot be read: ${(error as Error).message}`, exitCodes.badInput);
  });
  for (const stem of [name, dataset]) {
    for (const ending of endings) {
      const file = found.find((one) => one.toLowerCase() === `${stem}${ending}`.toLowerCase());
      if (file !== undefined) return join(folder, file);
    }
  }
  throw new ExitError(
    `${folder} holds neither ${name}.jsonl nor ${dataset}.json (or ${endings.slice(2).join(", ")}): name the file with --input`,
    exitCodes.badInput,
  );
}

function partsOf(samples: readonly Sample[], flags: Flags): (readonly [name: string, samples: readonly Sample[]])[] {
  if (flags.validationShare === 0) return [[flags.split, samples]];
  if (flags.split === "validation")
    throw new UsageError("--validation-share makes the split validation: give --split another name");
  const { train, validation } = split(samples, flags.validationShare, flags.seed);
  if (train.length === 0 || validation.length === 0) {
    throw new UsageError(
      `--validation-share ${flags.validationShare} of ${samples.length} rows leaves one side empty: give another share or --seed`,
    );
  }
  return [
    [flags.split, train],
    ["validation", validation],
  ];
}

/** A file's name as a dataset's: what cannot name files becomes a dash. */
function nameOf(file: string): string {
  const name = basename(file, extname(file))
    .replace(/[^\p{L}\p{N}._-]+/gu, "-")
    .replace(/^[._-]+/, "");
  return Array.from(name).slice(0, 24).join("") || "dataset";
}

function share(value: string): number {
  const number = Number(value);
  if (value.trim() === "" || !(number >= 0 && number < 1)) {
    throw new InvalidArgumentError("It is a number from 0 up to, without, 1.");
  }
  return number;
}
