/** A small Qwen3-VL with random weights: odd sizes, two DeepStack features, 3 query heads to a key/value head. */
import type { Tensor } from "@rot/tensor";
import type { Random } from "@rot/tensor/cases";
import { parseQwen3VlConfig, type Qwen3VlConfig } from "../../src/qwen3-vl/config.ts";
import { qwen3Vl } from "../../src/qwen3-vl/qwen3-vl.ts";
import type { VisionLanguageModel } from "../../src/vision-language-model.ts";
import { recordArchitecture } from "../../src/weights/architecture.ts";
import { weightsOf } from "../../src/weights/weights.ts";

/** Its `config.json`, in the spelling of transformers 4. */
export const tinyConfig = {
  model_type: "qwen3_vl",
  image_token_id: 90,
  video_token_id: 91,
  tie_word_embeddings: true,
  text_config: {
    model_type: "qwen3_vl_text",
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 3,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    head_dim: 12,
    vocab_size: 97,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-6,
    rope_theta: 5_000_000,
    rope_scaling: { mrope_interleaved: true, mrope_section: [2, 2, 2], rope_type: "default" },
  },
  vision_config: {
    depth: 3,
    hidden_size: 16,
    intermediate_size: 20,
    num_heads: 2,
    in_channels: 3,
    patch_size: 4,
    temporal_patch_size: 2,
    spatial_merge_size: 2,
    num_position_embeddings: 25,
    out_hidden_size: 24,
    deepstack_visual_indexes: [0, 2],
  },
};

/** Values of one patch: channels · frames · side². */
export const PATCH = 96;

export interface Tiny {
  readonly config: Qwen3VlConfig;
  readonly parameters: Map<string, Tensor>;
  readonly model: VisionLanguageModel;
}

/** The model with seeded noise for weights. */
export function tinyModel(random: Random, json: object = tinyConfig): Tiny {
  const config = parseQwen3VlConfig(json);
  const { parameters: shapes } = recordArchitecture((w) => qwen3Vl(w, config));
  const parameters = new Map<string, Tensor>();
  for (const [name, shape] of shapes) parameters.set(name, random.normal(shape, 0.3));
  return { config, parameters, model: qwen3Vl(weightsOf(parameters, random.device), config) };
}
