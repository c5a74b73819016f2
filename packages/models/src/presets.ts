/** The published sizes of Qwen3-VL as their `config.json`, and a tiny one. Weights for them come from a checkpoint or `randomInit`. */

/** What the published sizes differ in. */
interface Size {
  readonly text: {
    readonly hidden_size: number;
    readonly intermediate_size: number;
    readonly num_hidden_layers: number;
    readonly num_attention_heads: number;
    readonly num_key_value_heads: number;
    readonly head_dim: number;
    readonly vocab_size: number;
    readonly max_position_embeddings: number;
    readonly mrope_section: readonly [number, number, number];
    readonly tie_word_embeddings: boolean;
  };
  readonly vision: {
    readonly depth: number;
    readonly hidden_size: number;
    readonly intermediate_size: number;
    readonly num_heads: number;
    readonly num_position_embeddings: number;
    readonly deepstack_visual_indexes: readonly number[];
  };
}

/** In the layout of the published files (transformers 4.57), which both transformers 4 and 5 read. */
function config({ text, vision }: Size) {
  const { mrope_section, ...sizes } = text;
  return {
    architectures: ["Qwen3VLForConditionalGeneration"],
    image_token_id: 151655,
    model_type: "qwen3_vl",
    text_config: {
      attention_bias: false,
      attention_dropout: 0,
      bos_token_id: 151643,
      dtype: "bfloat16",
      eos_token_id: 151645,
      hidden_act: "silu",
      initializer_range: 0.02,
      model_type: "qwen3_vl_text",
      rms_norm_eps: 1e-6,
      rope_scaling: { mrope_interleaved: true, mrope_section, rope_type: "default" },
      rope_theta: 5_000_000,
      use_cache: true,
      ...sizes,
    },
    tie_word_embeddings: text.tie_word_embeddings,
    transformers_version: "4.57.0",
    video_token_id: 151656,
    vision_config: {
      hidden_act: "gelu_pytorch_tanh",
      in_channels: 3,
      initializer_range: 0.02,
      model_type: "qwen3_vl",
      out_hidden_size: text.hidden_size,
      patch_size: 16,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
      ...vision,
    },
    vision_end_token_id: 151653,
    vision_start_token_id: 151652,
  } as const;
}

const published = {
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 151936,
  max_position_embeddings: 262144,
  mrope_section: [24, 20, 20],
} as const;

const smallTower = {
  depth: 24,
  hidden_size: 1024,
  intermediate_size: 4096,
  num_heads: 16,
  num_position_embeddings: 2304,
  deepstack_visual_indexes: [5, 11, 17],
} as const;

/**
 * Configurations by name, as a checkpoint's `config.json` holds them.
 *
 * @see https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct/blob/main/config.json and its sisters
 */
export const presets = {
  "qwen3-vl-2b": config({
    text: {
      ...published,
      hidden_size: 2048,
      intermediate_size: 6144,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      tie_word_embeddings: true,
    },
    vision: smallTower,
  }),
  "qwen3-vl-4b": config({
    text: {
      ...published,
      hidden_size: 2560,
      intermediate_size: 9728,
      num_hidden_layers: 36,
      num_attention_heads: 32,
      tie_word_embeddings: true,
    },
    vision: smallTower,
  }),
  "qwen3-vl-8b": config({
    text: {
      ...published,
      hidden_size: 4096,
      intermediate_size: 12288,
      num_hidden_layers: 36,
      num_attention_heads: 32,
      tie_word_embeddings: false,
    },
    vision: {
      depth: 27,
      hidden_size: 1152,
      intermediate_size: 4304,
      num_heads: 16,
      num_position_embeddings: 2304,
      deepstack_visual_indexes: [8, 16, 24],
    },
  }),
  /** The published vocabulary, so that the published tokenizer fits, and everything else small. */
  tiny: config({
    text: {
      ...published,
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 32,
      max_position_embeddings: 4096,
      mrope_section: [6, 5, 5],
      tie_word_embeddings: true,
    },
    vision: {
      depth: 4,
      hidden_size: 32,
      intermediate_size: 64,
      num_heads: 2,
      num_position_embeddings: 64,
      deepstack_visual_indexes: [1, 2, 3],
    },
  }),
} as const;

/** The name of a preset. */
export type Preset = keyof typeof presets;
