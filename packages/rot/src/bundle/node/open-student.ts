/** A base model made ready to reason in latents: markers in its tables, perhaps trained weights and adapters. Node only. */
import { join } from "node:path";
import {
  type Architecture,
  buildModel,
  type ChatTemplate,
  describeModel,
  type Description,
  type FloatDType,
  loadCheckpoint,
  type Lora,
  type Pretrained,
  type Tokenizer,
} from "@rot/models";
import { type CheckpointFolder, loadChatTemplate, loadTokenizer, openCheckpoint, readJson } from "@rot/models/node";
import type { Device, Seed, Tensor } from "@rot/tensor";
import { type BaseRecord, BundleError, type MarkerRecord } from "../config.ts";
import {
  freshMarkers,
  haveRowFile,
  type MarkerMode,
  type MarkerRows,
  markerShapes,
  placeMarkers,
  planMarkers,
  teachMarkers,
} from "../markers.ts";
import { configHash, weightsHash } from "./fingerprint.ts";

/** Markers that a model does not have yet. */
export interface FreshMarkers {
  readonly mode: MarkerMode;
  readonly seed: Seed;
  readonly train?: boolean;
}

/** What {@link openStudent} takes besides the folder. */
export interface StudentOptions {
  /**
   * Where the markers get their rows, what these hold, and whether they will learn; `none` for a model that only writes
   * text.
   */
  readonly markers: FreshMarkers | MarkerRecord | "none";
  /** The rows of a {@link MarkerRecord} that has a file of them, asked for by name and shape. */
  readonly markerRows?: (shapes: ReadonlyMap<string, readonly number[]>) => Promise<MarkerRows>;
  /** Weights in place of the base's. */
  readonly trained?: CheckpointFolder;
  /** Adapters for the linears of the base. */
  readonly lora?: (linears: Architecture["linears"]) => Lora | Promise<Lora>;
  /** What the base's configuration and weights must be. */
  readonly expected?: BaseRecord;
  /** Of the base's parameters; by default as they are stored. */
  readonly dtype?: FloatDType;
}

/** A base model with markers. */
export interface Student {
  readonly base: BaseRecord;
  readonly pretrained: Pretrained;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly markers: MarkerRecord | null;
  /** Frees the weights and the adapters. */
  dispose(): void;
}

/**
 * Opens a model's folder for latent reasoning. Its files are only read.
 *
 * @throws {BundleError} when the base is not the expected one
 * @throws {UsageError} when tokenizer and model do not fit together
 * @throws {ConfigError | WeightsError | TokenizerError | TemplateError} for a damaged folder
 */
export async function openStudent(folder: string, device: Device, options: StudentOptions): Promise<Student> {
  const file = join(folder, "config.json");
  const plain = describeModel(await readJson(file), file);
  const tokenizer = await loadTokenizer(folder);
  const template = await loadChatTemplate(folder, tokenizer);
  await using checkpoint = await openCheckpoint(folder);
  const base: BaseRecord = { path: folder, config: configHash(plain), weights: await weightsHash(checkpoint) };
  if (options.expected) checkBase(base, options.expected);

  const markers = recordOf(options, tokenizer, plain);
  const description = markers ? withVocabulary(plain, markers.vocabulary) : plain;
  const lora = (await options.lora?.(description.architecture.linears)) ?? null;
  const weights = new Map<string, Tensor>();
  const dispose = (): void => {
    for (const weight of weights.values()) weight.dispose();
    lora?.dispose();
  };
  try {
    await load(weights, { checkpoint, plain, description, trained: options.trained, device, dtype: options.dtype });
    const fresh = freshOf(options);
    if (markers && (fresh ? !markers.own : haveRowFile(markers))) {
      const rows =
        (await options.markerRows?.(markerShapes(weights, markers))) ??
        freshMarkers(weights, markers, fresh?.seed ?? 0);
      try {
        placeMarkers(weights, markers, rows);
      } finally {
        for (const row of rows.values()) row.dispose();
      }
    }
    const ordered = new Map(
      [...description.architecture.parameters.keys()].map((key) => [key, weights.get(key) as Tensor]),
    );
    return { base, pretrained: buildModel(description, ordered, device, lora), tokenizer, template, markers, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** @throws {BundleError} when a base is not the one a checkpoint was trained on */
export function checkBase(found: BaseRecord, expected: BaseRecord): void {
  if (found.config === expected.config && found.weights === expected.weights) return;
  const what = found.config === expected.config ? "its weights differ" : "its config.json describes another model";
  throw new BundleError(
    `${found.path} is not the model that this checkpoint was trained on (${expected.path}): ${what}. Say where that one is with --model DIR`,
  );
}

/** The markers of a checkpoint, taught to the tokenizer again, or those of a new student. */
function recordOf({ markers }: StudentOptions, tokenizer: Tokenizer, { config }: Description): MarkerRecord | null {
  if (markers === "none") return null;
  if ("mode" in markers) {
    return { ...planMarkers(tokenizer, config.text.V, markers.mode), ...(markers.train && { trained: true }) };
  }
  teachMarkers(tokenizer, markers);
  return markers;
}

const freshOf = ({ markers }: StudentOptions): FreshMarkers | null =>
  typeof markers === "object" && "mode" in markers ? markers : null;

/** The description of a model whose token tables have another number of rows. */
export function withVocabulary(description: Description, rows: number): Description {
  if (rows === description.config.text.V) return description;
  const json = description.json as { readonly text_config: object };
  return describeModel({ ...json, text_config: { ...json.text_config, vocab_size: rows } });
}

interface Loading {
  readonly checkpoint: CheckpointFolder;
  readonly plain: Description;
  readonly description: Description;
  readonly trained: CheckpointFolder | undefined;
  readonly device: Device;
  readonly dtype: FloatDType | undefined;
}

/** The base's weights but for those that were trained, and these. */
async function load(
  weights: Map<string, Tensor>,
  { checkpoint, plain, description, trained, device, dtype }: Loading,
): Promise<void> {
  const replaced = new Set(trained?.tensors.keys());
  const part = ({ architecture }: Description, wanted: (key: string) => boolean): Architecture => ({
    ...architecture,
    parameters: new Map([...architecture.parameters].filter(([key]) => wanted(key))),
  });
  const own = {
    name: checkpoint.name,
    tensors: new Map([...checkpoint.tensors].filter(([key]) => !replaced.has(key))),
  };
  const { ignored } = plain;
  const loaded = await loadCheckpoint(
    own,
    part(plain, (key) => !replaced.has(key)),
    device,
    {
      ignored,
      ...(dtype && { dtype }),
    },
  );
  for (const [key, weight] of loaded) weights.set(key, weight);
  if (!trained) return;
  const changed = await loadCheckpoint(
    trained,
    part(description, (key) => replaced.has(key)),
    device,
  );
  for (const [key, weight] of changed) weights.set(key, weight);
}
