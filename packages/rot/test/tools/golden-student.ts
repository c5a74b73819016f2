/** The tiny model and the samples of the golden Render-of-Thought, put together from their parts. */
import { join } from "node:path";
import { buildModel, describeModel, type Lora, loraFrom, type Pretrained, weightsOf } from "@rot/models";
import { loadChatTemplate, loadTokenizer, readJson } from "@rot/models/node";
import { concat, type Device, type Tensor } from "@rot/tensor";
import { checkpointTensors, goldenFolder, GoldenFile, json } from "../../../models/test/tools/golden-folder.ts";
import { type HeadConfig, type ProjectionHead, projectionHead } from "../../src/methods/rot/head.ts";
import { answerTokens, questionTokens } from "../../src/methods/rot/prompt.ts";
import type { TrainingSample } from "../../src/methods/rot/step.ts";

interface Sample {
  readonly question: string;
  readonly cot: string;
  readonly answer: string;
  readonly latents: number;
  readonly grid_thw: readonly (readonly number[])[];
  readonly resized28_wh: readonly [number, number];
}

/** Losses of a batch. */
export interface Losses {
  readonly loss: number;
  readonly vision_loss: number;
  readonly lm_loss: number;
}

/** A run: its settings, and what was seen before each step. */
export interface Training {
  readonly settings: {
    readonly lr: number;
    readonly weight_decay: number;
    readonly warmup: number;
    readonly total: number;
    readonly max_grad_norm: number;
    readonly batches: readonly (readonly (readonly number[])[])[];
  };
  readonly steps: readonly {
    readonly lr: number;
    readonly micro: readonly ({ readonly samples: readonly number[] } & Losses)[];
    readonly grad_norm_before_clip: number;
  }[];
}

interface Index {
  readonly samples: readonly Sample[];
  readonly ids: Readonly<Record<string, number>>;
  readonly vocab_after_resize: number;
  readonly published_limits: {
    readonly shortest_edge: number;
    readonly longest_edge: number;
    readonly sample: number;
    readonly grid_thw: readonly (readonly number[])[];
    readonly latents: number;
  };
  readonly stage1_forward: {
    readonly batch: readonly number[];
    readonly vision_weight: number;
    readonly lm_weight: number;
    readonly losses: Readonly<Record<string, Losses>>;
    readonly uncertainty_weighting: {
      readonly log_var_vision: number;
      readonly log_var_lm: number;
      readonly total: number;
    };
  };
  readonly stage1_train: Readonly<Record<string, Training>>;
  readonly stage2_first: Losses;
  readonly stage2_train: Training;
  readonly lora: { readonly r: number; readonly alpha: number; readonly targets: readonly string[] };
}

/** `$ROT_GOLDEN_DIR/rot`, or our own copy of it. */
export const golden = process.env["ROT_GOLDEN_DIR"] ? goldenFolder("rot") : join(import.meta.dirname, "../golden/rot");
/** The model it was made with. */
export const base = goldenFolder("qwen3vl_tiny");
/** What `index.json` says. */
export const index = json<Index>(golden, "index.json");

/** The tiny model with the markers at the end of its table, which shrinks or grows to hold them. */
export async function openStudent(device: Device, adapters?: string) {
  const setup = await GoldenFile.open(golden, "setup.safetensors");
  const parameters = await checkpointTensors(device, base);
  const config = (await readJson(join(base, "config.json"))) as { text_config: object };
  const rows = index.vocab_after_resize;
  const markers = Object.keys(index.ids);
  const key = "model.language_model.embed_tokens.weight";
  const table = parameters.get(key) as Tensor;
  const added = await Promise.all(markers.map((name) => setup.device(device, `token.${name}`)));
  parameters.set(key, concat([table.slice([0, rows - markers.length]), ...added.map((row) => row.reshape(1, -1))]));
  const description = describeModel({ ...config, text_config: { ...config.text_config, vocab_size: rows } });
  let lora: Lora | null = null;
  if (adapters) {
    const file = await GoldenFile.open(golden, adapters);
    const tensors = new Map<string, Tensor>();
    for (const name of file.keys) tensors.set(name, await file.device(device, name));
    const { r, alpha, targets } = index.lora;
    lora = loraFrom({ r, alpha, targetModules: targets }, description.architecture.linears, tensors, adapters);
  }
  const pretrained: Pretrained = buildModel(description, parameters, device, lora);
  return { ...pretrained, head: await openHead(device, setup), samples: await samplesOf(device, setup) };
}

/** The head of a file, and its parameters by name. */
export async function openHead(
  device: Device,
  file: GoldenFile,
): Promise<{ readonly parameters: Map<string, Tensor>; readonly head: ProjectionHead }> {
  const parameters = new Map<string, Tensor>();
  for (const key of file.keys) {
    if (key.startsWith("head.")) parameters.set(key.slice(5), await file.device(device, key));
  }
  const [hidden, width] = (parameters.get("1.weight") as Tensor).shape as [number, number];
  const config: HeadConfig = { width, hidden, activation: "swiglu" };
  return { parameters, head: projectionHead(weightsOf(parameters, device), config) };
}

async function samplesOf(device: Device, setup: GoldenFile): Promise<TrainingSample[]> {
  const tokenizer = await loadTokenizer(base);
  tokenizer.addTokens(Object.keys(index.ids));
  const text = { tokenizer, template: await loadChatTemplate(base, tokenizer) };
  const markers = { begin: index.ids["<img_begin>"] as number, end: index.ids["<img_end>"] as number };
  return Promise.all(
    index.samples.map(async ({ question, answer }, i) => ({
      question: questionTokens(text, question, markers),
      answer: answerTokens(text, answer, markers, "reference"),
      target: await setup.device(device, `target.${i}`),
    })),
  );
}
