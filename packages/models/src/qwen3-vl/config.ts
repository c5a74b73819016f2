/** `config.json` of a Qwen3-VL checkpoint, as transformers 4 and 5 spell it, checked and brought into our own words. */
import { z } from "zod";

/** A configuration that is damaged, or of a model that is not built here. */
export class ConfigError extends Error {
  override readonly name: string = "ConfigError";
}

/** The decoder. Letters are those of ARCHITECTURE.md. */
export interface TextConfig {
  /** Model width. */
  readonly D: number;
  /** Query heads. */
  readonly H: number;
  /** Key/value heads. */
  readonly G: number;
  /** Head width; H · K need not be D. */
  readonly K: number;
  /** Feed-forward width. */
  readonly F: number;
  /** Vocabulary: rows of the embedding. */
  readonly V: number;
  readonly layers: number;
  /** Whether q, k, v and o have a bias; published models have none. */
  readonly attentionBias: boolean;
  /** Added to the mean square. */
  readonly rmsNormEps: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** How many of the K/2 frequencies turn with time, height and width. */
  readonly mropeSection: readonly [time: number, height: number, width: number];
  /** Whether the output matrix is the embedding. */
  readonly tied: boolean;
  /** Positions that the model was made for. */
  readonly maxPositions: number;
}

/** The vision tower. */
export interface VisionConfig {
  /** Width of a patch's hidden state. */
  readonly D: number;
  /** Heads. */
  readonly H: number;
  /** Head width: D / H. */
  readonly K: number;
  /** Width inside the MLP. */
  readonly F: number;
  readonly depth: number;
  readonly channels: number;
  /** Side of a patch, in pixels. */
  readonly patch: number;
  /** Frames in a patch. */
  readonly frames: number;
  /** Patches on the side of a block that becomes one token. */
  readonly merge: number;
  /** Rows and columns of the learned position table. */
  readonly side: number;
  /** Blocks whose output is a DeepStack feature, in order. */
  readonly deepstack: readonly number[];
  /** Width of a token: the decoder's D. */
  readonly out: number;
}

/** A whole Qwen3-VL. */
export interface Qwen3VlConfig {
  readonly text: TextConfig;
  readonly vision: VisionConfig;
  /** What stands for one merged block of an image in the token ids. */
  readonly imageToken: number;
  readonly videoToken: number;
}

/** Nobody's model is larger; a hostile file must not make us try. */
const size = z
  .int()
  .positive()
  .max(2 ** 24);
const count = z.int().positive().max(4096);
const eps = z.number().positive().max(1).default(1e-6);
const token = z.int().nonnegative();

const rope = z.object({
  rope_type: z.literal("default").default("default"),
  mrope_interleaved: z.literal(true).default(true),
  mrope_section: z.tuple([z.int().nonnegative(), z.int().nonnegative(), z.int().nonnegative()]),
});
const theta = z.number().min(1);

const text = z
  .object({
    model_type: z.literal("qwen3_vl_text").default("qwen3_vl_text"),
    hidden_size: size,
    intermediate_size: size,
    num_hidden_layers: count,
    num_attention_heads: count,
    num_key_value_heads: count,
    head_dim: count.multipleOf(2).default(128),
    vocab_size: size,
    max_position_embeddings: z.int().positive(),
    attention_bias: z.boolean().default(false),
    attention_dropout: z.literal(0).default(0),
    hidden_act: z.literal("silu").default("silu"),
    rms_norm_eps: eps,
    tie_word_embeddings: z.boolean().optional(),
    // transformers 4
    rope_theta: theta.optional(),
    rope_scaling: rope.nullish(),
    // transformers 5
    rope_parameters: rope.extend({ rope_theta: theta.optional() }).nullish(),
  })
  .check(({ value, issues }) => {
    const refuse = (key: keyof typeof value, message: string): void => {
      issues.push({ code: "custom", input: value[key], path: [key], message });
    };
    const { num_attention_heads: H, num_key_value_heads: G, head_dim: K, rope_parameters, rope_scaling } = value;
    if (H % G !== 0) refuse("num_key_value_heads", `${G} do not divide the ${H} heads`);
    const rotary = rope_parameters ?? rope_scaling;
    const sum = rotary?.mrope_section.reduce((a, b) => a + b, 0);
    if (!rotary) refuse("rope_scaling", "is missing: it or rope_parameters says how positions are turned into angles");
    else if (sum !== K / 2) refuse("rope_scaling", `mrope_section adds up to ${sum}, not to half of head_dim ${K}`);
    if ((rope_parameters?.rope_theta ?? value.rope_theta) === undefined) refuse("rope_theta", "is missing");
  });

const vision = z
  .object({
    model_type: z.enum(["qwen3_vl", "qwen3_vl_vision"]).default("qwen3_vl"),
    depth: count,
    hidden_size: size,
    hidden_act: z.literal("gelu_pytorch_tanh").default("gelu_pytorch_tanh"),
    intermediate_size: size,
    num_heads: count,
    in_channels: count.default(3),
    patch_size: count,
    temporal_patch_size: count,
    spatial_merge_size: count,
    num_position_embeddings: size,
    out_hidden_size: size,
    deepstack_visual_indexes: z.array(z.int().nonnegative()).max(4096),
  })
  .check(({ value, issues }) => {
    const refuse = (key: keyof typeof value, message: string): void => {
      issues.push({ code: "custom", input: value[key], path: [key], message });
    };
    if (value.hidden_size % (4 * value.num_heads) !== 0) {
      refuse("num_heads", `a head of ${value.hidden_size} / ${value.num_heads} has no quarters for rows and columns`);
    }
    if (!Number.isInteger(Math.sqrt(value.num_position_embeddings))) {
      refuse("num_position_embeddings", `${value.num_position_embeddings} is no square`);
    }
    const taps = value.deepstack_visual_indexes;
    if (taps.some((tap, i) => tap >= value.depth || tap <= (taps[i - 1] ?? -1))) {
      refuse("deepstack_visual_indexes", `[${taps.join(", ")}] are not ascending blocks below depth ${value.depth}`);
    }
  });

const schema = z
  .object({
    text_config: text,
    vision_config: vision,
    image_token_id: token,
    video_token_id: token,
    tie_word_embeddings: z.boolean().optional(),
  })
  .check(({ value, issues }) => {
    const refuse = (path: string[], message: string): void => {
      issues.push({ code: "custom", input: undefined, path, message });
    };
    const { text_config: decoder, vision_config: tower } = value;
    if (tower.out_hidden_size !== decoder.hidden_size) {
      refuse(
        ["vision_config", "out_hidden_size"],
        `is ${tower.out_hidden_size}, but text_config.hidden_size is ${decoder.hidden_size}`,
      );
    }
    if (tower.deepstack_visual_indexes.length > decoder.num_hidden_layers) {
      refuse(
        ["vision_config", "deepstack_visual_indexes"],
        `has more features than the ${decoder.num_hidden_layers} layers that take one each`,
      );
    }
  });

/** What the model is called in `config.json`. */
const MODEL_TYPE = "qwen3_vl";

/**
 * The configuration of a checkpoint. Keys that do not touch the model's numbers are ignored.
 *
 * @param json  what `config.json` holds, parsed
 * @param file  how messages call it
 * @throws {ConfigError} naming the file, the key and the value, when it is of another architecture or does not fit together
 */
export function parseQwen3VlConfig(json: unknown, file = "config.json"): Qwen3VlConfig {
  const type = typeof json === "object" && json !== null && "model_type" in json ? json.model_type : undefined;
  if (type !== MODEL_TYPE) {
    throw new ConfigError(
      `${file}: model_type is ${JSON.stringify(type) ?? "missing"}; the architecture built here is "${MODEL_TYPE}"`,
    );
  }
  const parsed = schema.safeParse(json, { reportInput: true });
  if (!parsed.success) {
    const lines = parsed.error.issues.map(({ path, message, input }) => {
      const value = input === undefined ? "" : ` (it is ${JSON.stringify(input)})`;
      return `${path.join(".")}: ${message}${value}`;
    });
    throw new ConfigError(`${file}: ${lines.join("\n")}`);
  }
  const { text_config, vision_config, tie_word_embeddings, image_token_id, video_token_id } = parsed.data;
  return {
    text: textOf(text_config, tie_word_embeddings),
    vision: visionOf(vision_config),
    imageToken: image_token_id,
    videoToken: video_token_id,
  };
}

function textOf(json: z.infer<typeof text>, tied: boolean | undefined): TextConfig {
  const rotary = json.rope_parameters ?? json.rope_scaling;
  return {
    D: json.hidden_size,
    H: json.num_attention_heads,
    G: json.num_key_value_heads,
    K: json.head_dim,
    F: json.intermediate_size,
    V: json.vocab_size,
    layers: json.num_hidden_layers,
    attentionBias: json.attention_bias,
    rmsNormEps: json.rms_norm_eps,
    ropeTheta: (json.rope_parameters?.rope_theta ?? json.rope_theta) as number,
    mropeSection: (rotary as z.infer<typeof rope>).mrope_section,
    tied: tied ?? json.tie_word_embeddings ?? false,
    maxPositions: json.max_position_embeddings,
  };
}

const visionOf = (json: z.infer<typeof vision>): VisionConfig => ({
  D: json.hidden_size,
  H: json.num_heads,
  K: json.hidden_size / json.num_heads,
  F: json.intermediate_size,
  depth: json.depth,
  channels: json.in_channels,
  patch: json.patch_size,
  frames: json.temporal_patch_size,
  merge: json.spatial_merge_size,
  side: Math.sqrt(json.num_position_embeddings),
  deepstack: json.deepstack_visual_indexes,
  out: json.out_hidden_size,
});
