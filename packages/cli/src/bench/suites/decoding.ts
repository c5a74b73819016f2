/** Tokens a second of a decoder with the widths of Qwen3-VL-2B, two layers deep, from random weights in bf16. */
import { decode, prefill, presets, randomModel, type VisionLanguageModel } from "@rot/models";
import type { Device } from "@rot/tensor";
import type { Benchmark } from "../benchmark.ts";

/** Few layers and words: what a layer costs, and little else. */
const [LAYERS, VOCABULARY] = [2, 8192];
const PROMPT = Int32Array.from({ length: 128 }, (_, i) => (i * 7919 + 13) % VOCABULARY);
const NEW_TOKENS = 8;

function model(device: Device): VisionLanguageModel {
  const preset = presets["qwen3-vl-2b"];
  const text_config = { ...preset.text_config, num_hidden_layers: LAYERS, vocab_size: VOCABULARY };
  const vision_config = { ...preset.vision_config, depth: 1, deepstack_visual_indexes: [] };
  return randomModel({ ...preset, text_config, vision_config }, device, { seed: 1 }).model;
}

const {
  hidden_size: D,
  intermediate_size: F,
  num_attention_heads: H,
  num_key_value_heads: G,
  head_dim: K,
} = presets["qwen3-vl-2b"].text_config;
/** Weights that each token passes through. */
const WEIGHTS = LAYERS * (2 * D * H * K + 2 * D * G * K + 3 * D * F) + D * VOCABULARY;

export const decoding: readonly Benchmark[] = [
  {
    name: `prefill ${PROMPT.length}`,
    tokens: PROMPT.length,
    flops: 2 * (WEIGHTS - D * VOCABULARY) * PROMPT.length,
    bytes: 2 * (WEIGHTS - D * VOCABULARY),
    prepare(device) {
      const decoder = model(device);
      const run = (): void => {
        const { cache, last } = prefill(decoder, [{ ids: PROMPT }], { dtype: "bf16" });
        cache.dispose();
        last.dispose();
      };
      return [{ name: `${LAYERS} layers of Qwen3-VL-2B, bf16`, run }];
    },
  },
  {
    name: `decode after ${PROMPT.length}`,
    tokens: NEW_TOKENS,
    flops: 2 * WEIGHTS * NEW_TOKENS,
    bytes: 2 * WEIGHTS * NEW_TOKENS,
    prepare(device) {
      const decoder = model(device);
      const begun = prefill(decoder, [{ ids: PROMPT }], { dtype: "bf16", room: 64 });
      return [
        {
          name: `${LAYERS} layers of Qwen3-VL-2B, bf16, greedy`,
          async runAndWait() {
            // The first token comes of the prompt's last state, without a pass.
            const tokens = decode(decoder, begun, { maxNewTokens: NEW_TOKENS + 1 });
            for await (const _ of tokens);
            begun.cache.truncate(PROMPT.length);
          },
        },
      ];
    },
  },
];
