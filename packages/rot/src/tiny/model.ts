/** The tiny model: Qwen3-VL's architecture with a quarter of a million parameters. */
import { buildModel, describeModel, type Pretrained } from "@rot/models";
import {
  type Device,
  init,
  keep,
  key,
  ones,
  requireGrad,
  type Seed,
  type Shape,
  type Tensor,
  zeros,
} from "@rot/tensor";
import { marks, spellings } from "./vocabulary.ts";

const WIDTH = 64;
const LAYERS = 2;

/** Its `config.json`. */
export const tinyConfig = {
  architectures: ["Qwen3VLForConditionalGeneration"],
  image_token_id: marks.image,
  model_type: "qwen3_vl",
  text_config: {
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: marks.question,
    dtype: "float32",
    eos_token_id: marks.end,
    head_dim: 16,
    hidden_act: "silu",
    hidden_size: WIDTH,
    initializer_range: 0.125,
    intermediate_size: 192,
    max_position_embeddings: 256,
    model_type: "qwen3_vl_text",
    num_attention_heads: 4,
    num_hidden_layers: LAYERS,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-6,
    rope_scaling: { mrope_interleaved: true, mrope_section: [4, 2, 2], rope_type: "default" },
    rope_theta: 10_000,
    tie_word_embeddings: true,
    use_cache: true,
    vocab_size: spellings.length,
  },
  tie_word_embeddings: true,
  video_token_id: marks.video,
  vision_config: {
    deepstack_visual_indexes: [],
    depth: 1,
    hidden_act: "gelu_pytorch_tanh",
    hidden_size: 48,
    in_channels: 3,
    initializer_range: 0.02,
    intermediate_size: 96,
    model_type: "qwen3_vl",
    num_heads: 4,
    num_position_embeddings: 64,
    out_hidden_size: WIDTH,
    patch_size: 16,
    spatial_merge_size: 2,
    temporal_patch_size: 2,
  },
  vision_end_token_id: marks.done,
  vision_start_token_id: marks.begin,
} as const;

/** Where the vision tower's parameters are. */
const TOWER = "model.visual.";

/**
 * A tiny model that has learnt nothing.
 *
 * Linears of the decoder are normal with variance 1 / inputs, those that write to the residual divided by √(2 · layers), the
 * embedding normal with deviation 1/8. In the tower, attention is normal with deviation 0.02, so that at first each cell keeps
 * to itself; other linears are uniform in ±1/√inputs.
 */
export function createTiny(device: Device, seed: Seed): Pretrained {
  const description = describeModel(tinyConfig);
  const { parameters } = description.architecture;
  const draw = (name: string, shape: Shape): Tensor => {
    const from = key(seed).for(name);
    const normal = (std: number): Tensor => init.normal(device, shape, { seed: from, std });
    const inputs = (weight: Shape): number => weight.slice(1).reduce((a, b) => a * b, 1);
    if (/norm\d?\.weight$/.test(name)) return ones(device, shape);
    if (/norm\d?\.bias$/.test(name)) return zeros(device, shape);
    if (name.startsWith(TOWER)) {
      if (name.includes("pos_embed") || /attn\.\w+\.weight$/.test(name)) return normal(0.02);
      if (name.endsWith("attn.proj.bias")) return zeros(device, shape);
      const weight = parameters.get(name.replace(/bias$/, "weight")) as Shape;
      const bound = 1 / Math.sqrt(inputs(weight));
      return init.uniform(device, shape, { seed: from, from: -bound, to: bound });
    }
    if (name.includes("embed_tokens")) return normal(0.125);
    const isLast = /(o_proj|down_proj)\.weight$/.test(name);
    return normal(Math.sqrt(1 / (inputs(shape) * (isLast ? 2 * LAYERS : 1))));
  };
  const weights = new Map([...parameters].map(([name, shape]) => [name, keep(draw(name, shape))] as const));
  return buildModel(description, weights, device);
}

/** Which parameters of a model learn. */
export type Part = "decoder" | "all";

/** A model over the same memory as another, some of whose parameters are leaves: to train them changes both. */
export function trainable(
  { weights, model: { device }, ...description }: Pretrained,
  part: Part,
): { readonly model: Pretrained; readonly parameters: ReadonlyMap<string, Tensor> } {
  const parameters = new Map<string, Tensor>();
  const view = new Map(weights);
  for (const [name, tensor] of weights) {
    if (part === "decoder" && name.startsWith(TOWER)) continue;
    const leaf = requireGrad(keep(tensor.alias()));
    view.set(name, leaf);
    parameters.set(name, leaf);
  }
  return { model: buildModel(description, view, device), parameters };
}

/** A model of its own with the same values. */
export function copyOf({ weights, model: { device }, ...description }: Pretrained): Pretrained {
  const copies = new Map([...weights].map(([name, tensor]) => [name, keep(tensor.add(0))] as const));
  return buildModel(description, copies, device);
}
