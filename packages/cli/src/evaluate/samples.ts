/** Which questions `rot-cli evaluate` asks. */
import { stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { type FieldMap, type RunConfig, type Sample, syntheticSamples, tinySamples } from "@rot/rot";
import { readDataset } from "@rot/rot/node";
import { key } from "@rot/tensor";
import { ExitError, exitCodes } from "../exit-codes.ts";

/** The flags that samples come from. */
export interface SampleFlags {
  readonly data_file?: string;
  /** Without it the model's own: `tiny`, or the one that the published script reads. */
  readonly dataset?: string;
  readonly split: string;
  readonly max_samples?: number;
  readonly format?: string;
  readonly map?: FieldMap;
  readonly onBadRow: "fail" | "skip";
  readonly question?: string;
}

/** Samples, and what results are called after them. */
export interface Asked {
  readonly name: string;
  readonly samples: readonly Sample[];
  /** Rows that could not be read. */
  readonly bad: number;
}

/** How many synthetic problems there are unless `--max_samples` says so. */
const SYNTHETIC = 500;

/**
 * The samples of a command line: one question, a file, or a dataset by its name.
 *
 * @param config  whose training file lies where the dataset's files do
 * @param model   whether it is the embedded one, which has problems of its own
 * @throws {ExitError} when there is no such dataset
 * @throws {DatasetError} when its rows cannot be used
 */
export async function readSamples(
  flags: SampleFlags,
  config: RunConfig | null,
  model: "tiny" | "other",
): Promise<Asked> {
  if (flags.question !== undefined) {
    return { name: "question", samples: [{ id: 0, question: flags.question, cot: "", answer: "" }], bad: 0 };
  }
  const { dataset = model === "tiny" ? "tiny" : "gsm8k", split, max_samples: limit } = flags;
  if (dataset === "tiny" && flags.data_file === undefined) {
    return { name: "tiny_test", samples: tinySamples(limit), bad: 0 };
  }
  if (dataset === "synthetic" && flags.data_file === undefined) {
    const drawn = syntheticSamples(key(0).for(`synthetic.${split}`), 0, limit ?? SYNTHETIC);
    return { name: `${dataset}_${split}`, samples: drawn, bad: 0 };
  }
  const file =
    flags.data_file ??
    (await findDataset(dataset, split, processedFolder(config), "Name a file with --data_file FILE"));
  const { samples, bad } = await readDataset(file, {
    onBadRow: flags.onBadRow,
    ...(flags.map && { map: flags.map }),
    ...(flags.format !== undefined && { format: flags.format }),
    ...(limit !== undefined && { limit }),
  });
  const isNamed = flags.data_file === undefined && !(await isFile(dataset));
  return { name: isNamed ? `${dataset}_${split}` : basename(file, extname(file)), samples, bad: bad.length };
}

/**
 * The file of a dataset: itself one, `SPLIT.jsonl` of a folder, or in the folder of processed data under one of the published
 * names.
 *
 * @param advice  how to name a file instead
 * @throws {ExitError} when there is none
 */
export async function findDataset(dataset: string, split: string, folder: string, advice: string): Promise<string> {
  if (await isFile(dataset)) return dataset;
  const tried = [
    join(dataset, `${split}.jsonl`),
    ...[`${dataset}_${split}_processed.jsonl`, `${dataset}_${split}.jsonl`].map((name) => join(folder, name)),
  ];
  for (const path of tried) if (await isFile(path)) return path;
  throw new ExitError(
    `there is no dataset ${dataset} (${split}): tried ${tried.join(", ")}. ${advice}, make one with rot-cli preprocess, or use --dataset synthetic`,
    exitCodes.badInput,
  );
}

/** Where the published scripts keep what they processed, unless a configuration names another folder. */
export const processedFolder = (config: RunConfig | null): string =>
  config?.data.dataset.includes("/") === true ? dirname(config.data.dataset) : "data/processed";

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
