/** Checkpoints made of the golden data of Render-of-Thought: what its published code trained, as this project saves it. */
import { join } from "node:path";
import { type Lora, loraFrom, type Tokenizer } from "@rot/models";
import type { Device, Tensor } from "@rot/tensor";
import { GoldenFile, goldenFolder, json } from "../../../models/test/tools/golden-folder.ts";
import { paperStrips } from "../../src/bundle/config.ts";
import { bundleContents, openStudent } from "../../src/bundle/node/index.ts";
import { writeCheckpoint } from "../../src/train/checkpoint-folder.ts";

/** What `index.json` says of generation. */
export interface Generation {
  readonly sample: number;
  readonly budget: number;
  readonly tokens: readonly number[];
  readonly margins: readonly number[];
  readonly stopped_by_eos: boolean;
  readonly stop_token?: number;
  readonly text: string;
}

/** The parts of `index.json` that are read here. */
export interface GoldenIndex {
  readonly samples: readonly { readonly question: string; readonly cot: string; readonly answer: string }[];
  readonly ids: Readonly<Record<string, number>>;
  readonly vocab_after_resize: number;
  readonly generate_before_training: readonly Generation[];
  readonly generate_after_stage1: readonly Generation[];
  readonly generate_after_stage2: readonly Generation[];
  readonly generate_with_other_stop_token: readonly Generation[];
  /** By the loss; what comes after goes on from the first. */
  readonly stage1_train: Readonly<Record<string, unknown>>;
  readonly lora: { readonly r: number; readonly alpha: number; readonly targets: readonly string[] };
}

/**
 * Golden data of Render-of-Thought.
 *
 * @param which  `given`: of `ROT_GOLDEN_DIR`, for golden tests; `own`: our own copy, for tests that know its sizes
 */
export function openGolden(which: "given" | "own") {
  const own = join(import.meta.dirname, "../golden/rot");
  const golden = which === "given" && process.env["ROT_GOLDEN_DIR"] ? goldenFolder("rot") : own;
  /** The model it was made with. */
  const base =
    which === "given"
      ? goldenFolder("qwen3vl_tiny")
      : join(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny");
  const index = json<GoldenIndex>(golden, "index.json");

  /** A file of golden tensors under other names: those that begin with `prefix`, without it. */
  async function tensorsOf(device: Device, file: string, prefix = ""): Promise<Map<string, Tensor>> {
    const opened = await GoldenFile.open(golden, file);
    const tensors = new Map<string, Tensor>();
    for (const key of opened.keys) {
      if (key.startsWith(prefix)) tensors.set(key.slice(prefix.length), await opened.device(device, key));
    }
    return tensors;
  }

  /** The markers' golden rows by the names of `markers.safetensors`. */
  async function markerRows(device: Device): Promise<Map<string, Tensor>> {
    const rows = await tensorsOf(device, "setup.safetensors", "token.");
    return new Map([...rows].map(([token, row]) => [token.slice(1, -1), row]));
  }

  /**
   * Writes a checkpoint with the golden markers.
   *
   * @param head      the file of golden tensors that has the head
   * @param adapters  the one that has LoRA weights, if there are any
   * @returns         its path
   */
  async function writeGoldenBundle(
    device: Device,
    parent: string,
    { head, adapters, step = 1 }: { readonly head: string; readonly adapters?: string; readonly step?: number },
  ): Promise<string> {
    const { r, alpha, targets } = index.lora;
    const student = await openStudent(base, device, {
      markers: { mode: "reference", seed: 0 },
      // As the golden values were made: the rows of the markers would be rounded to a 16-bit table.
      dtype: "f32",
      markerRows: () => markerRows(device),
      ...(adapters !== undefined && {
        lora: async (linears): Promise<Lora> =>
          loraFrom({ r, alpha, targetModules: targets }, linears, await tensorsOf(device, adapters), adapters),
      }),
    });
    const parameters = await tensorsOf(device, head, "head.");
    const [hidden, width] = (parameters.get("1.weight") as Tensor).shape as [number, number];
    const contents = bundleContents(student, {
      config: {
        mode: adapters === undefined ? "stage1" : "lora",
        head: { width, hidden, activation: "swiglu" },
        latents: { budget: 8 },
        answerStyle: "reference",
        chain: false,
        strips: { ...paperStrips, encoding: "reference" },
      },
      head: parameters,
      lora: student.pretrained.lora,
    });
    const path = await writeCheckpoint(parent, step, contents);
    student.dispose();
    return path;
  }

  return { golden, base, index, tensorsOf, writeGoldenBundle };
}

/** The ids of the golden stop token. */
export const stopOf = (tokenizer: Tokenizer, { stop_token: other }: Generation): number => other ?? tokenizer.eosId;
