/** The golden checkpoints of the published layout, on bases made of their own weights: their sizes are read from them. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fromBytes, openSafetensors, type Safetensors, writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { afterAll, expect, test } from "vitest";
import { importCheckpoint } from "./index.ts";
import { meaningOf } from "./names.ts";

const own = join(import.meta.dirname, "../../../test/golden/pt_checkpoints");
const golden = process.env["ROT_GOLDEN_DIR"] ? resolve(process.env["ROT_GOLDEN_DIR"], "pt_checkpoints") : own;
const tiny = join(import.meta.dirname, "../../../../models/test/golden/qwen3vl_tiny");
const folder = mkdtempSync(join(tmpdir(), "rot-import-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (path: string): Promise<Safetensors> => openSafetensors(fromBytes(readFileSync(path)), { name: path });

const weights = await open(join(golden, "expected/deepspeed.safetensors"));
const shapeOf = (end: string): readonly number[] =>
  [...weights.tensors].find(([name]) => name.endsWith(end))?.[1].shape ?? [];
/** Our own copy is cut to a few rows a tensor, which is no model any more. */
const whole = shapeOf("patch_embed.proj.weight")[0] === shapeOf("patch_embed.proj.bias")[0];

/** Our tokenizer without its merges: the 256 bytes and the added tokens, for which nearly every table has rows. */
function byteTokenizer(): object {
  const tokenizer = JSON.parse(readFileSync(join(tiny, "tokenizer.json"), "utf8")) as {
    readonly added_tokens: readonly object[];
    readonly model: { readonly vocab: Readonly<Record<string, number>> };
  };
  const bytes = Object.keys(tokenizer.model.vocab).filter((token) => token.length === 1);
  return {
    ...tokenizer,
    added_tokens: tokenizer.added_tokens.map((token, i) => ({ ...token, id: bytes.length + i })),
    model: { ...tokenizer.model, vocab: Object.fromEntries(bytes.map((token, id) => [token, id])), merges: [] },
  };
}

/** The model that a converted checkpoint was trained on: its weights without adapters, under a tokenizer of ours. */
async function writeBase(): Promise<string> {
  const base = join(folder, "base");
  mkdirSync(base);
  const keys = new Map<string, string>();
  for (const name of weights.tensors.keys()) {
    const meaning = meaningOf(name);
    if (meaning.part === "model" && meaning.key !== "lm_head.weight") keys.set(meaning.key, name);
  }
  const shape = (key: string): readonly number[] => weights.tensors.get(keys.get(key) ?? "")?.shape ?? [];
  const count = (pattern: RegExp): number =>
    new Set([...keys.keys()].flatMap((key) => pattern.exec(key)?.[1] ?? [])).size;
  const layer = "model.language_model.layers.0";
  const [V, D] = shape("model.language_model.embed_tokens.weight");
  const [K = 0] = shape(`${layer}.self_attn.q_norm.weight`);
  const [width = 0, channels, frames, patch] = shape("model.visual.patch_embed.proj.weight");
  const deepstack = count(/^model\.visual\.deepstack_merger_list\.(\d+)/);
  const config = JSON.parse(readFileSync(join(tiny, "config.json"), "utf8")) as Record<
    "text_config" | "vision_config",
    object
  >;
  const third = Math.floor(K / 6);
  const text = {
    vocab_size: V,
    hidden_size: D,
    head_dim: K,
    num_hidden_layers: count(/^model\.language_model\.layers\.(\d+)/),
    num_attention_heads: (shape(`${layer}.self_attn.q_proj.weight`)[0] ?? 0) / K,
    num_key_value_heads: (shape(`${layer}.self_attn.k_proj.weight`)[0] ?? 0) / K,
    intermediate_size: shape(`${layer}.mlp.gate_proj.weight`)[0],
    rope_scaling: { mrope_interleaved: true, mrope_section: [K / 2 - 2 * third, third, third], rope_type: "default" },
  };
  const vision = {
    hidden_size: width,
    in_channels: channels,
    temporal_patch_size: frames,
    patch_size: patch,
    depth: count(/^model\.visual\.blocks\.(\d+)/),
    intermediate_size: shape("model.visual.blocks.0.mlp.linear_fc1.weight")[0],
    num_heads: 1,
    out_hidden_size: D,
    num_position_embeddings: shape("model.visual.pos_embed.weight")[0],
    spatial_merge_size: Math.sqrt((shape("model.visual.merger.linear_fc1.weight")[1] ?? 0) / width),
    deepstack_visual_indexes: Array.from({ length: deepstack }, (_, i) => i),
  };
  const json = {
    ...config,
    text_config: { ...config.text_config, ...text },
    vision_config: { ...config.vision_config, ...vision },
  };
  writeFileSync(join(base, "config.json"), JSON.stringify(json));
  cpSync(join(tiny, "tokenizer_config.json"), join(base, "tokenizer_config.json"));
  writeFileSync(join(base, "tokenizer.json"), JSON.stringify(byteTokenizer()));
  const sources = [...keys].map(([key, name]) => ({
    name: key,
    dtype: weights.tensors.get(name)?.dtype ?? "F32",
    shape: shape(key),
    data: () => weights.read(name),
  }));
  await writeFileAtomically(join(base, "model.safetensors"), writeSafetensors(sources));
  return base;
}

test.runIf(whole)("the weights of stage 2 come in with their bits", async () => {
  const base = await writeBase();
  const notes: string[] = [];
  const output = join(folder, "run");
  const { stages, lora } = await importCheckpoint({ stage2: golden, base, output, note: (text) => notes.push(text) });
  expect(notes.join()).toContain("the projection head is the one among the weights");
  const tag = readFileSync(join(golden, "latest"), "utf8").trim();
  const step = Number(tag.replace("global_step", ""));
  expect(stages).toMatchObject([{ mode: "stage1" }, { mode: "lora", step }]);
  const checkpoint = stages[1]?.checkpoint as string;
  const parts = { adapter: "adapter_model.safetensors", head: "projection_head.safetensors" };
  let seen = 0;
  for (const [part, name] of Object.entries(parts)) {
    const file = await open(join(checkpoint, name));
    for (const [key, { shape }] of file.tensors) {
      const source = [...weights.tensors.keys()].find((one) => {
        const meaning = meaningOf(one);
        return meaning.part === part && "key" in meaning && meaning.key === key;
      });
      expect(shape).toEqual(weights.tensors.get(source ?? "")?.shape);
      expect(Buffer.compare(await file.read(key), await weights.read(source ?? "")), key).toBe(0);
      if (key.endsWith("lora_A.weight")) expect(shape[0]).toBe(lora?.r);
      seen++;
    }
  }
  expect(seen).toBeGreaterThan(9);
});

test("stage 1 and stage 2 are refused on a base of another size, with the difference, and nothing is left", async () => {
  const before = readdirSync(folder);
  const stage1 = join(golden, "stage1");
  const refuse = (options: object) => importCheckpoint({ base: tiny, output: join(folder, "never"), ...options });
  await expect(refuse({ stage1 })).rejects.toThrow(/has its markers at the tokens \d+ and \d+, the tokenizer of/);
  // A table too small for the tokenizer is told first; our own copy's is.
  const lists = /has \d+ rows in its token table|on the model of .*\n +(missing|of another shape) \(\d+\)/;
  await expect(refuse({ stage2: golden })).rejects.toThrow(lists);
  if (whole)
    await expect(refuse({ stage1, stage2: golden, base: join(folder, "base") })).rejects.toThrow(/two models$/);
  expect(readdirSync(folder)).toEqual(before);
});
