import { expect, test } from "vitest";
import { tinyConfig } from "../../test/tools/tiny-qwen3-vl.ts";
import { presets } from "../presets.ts";
import { ConfigError, parseQwen3VlConfig } from "./config.ts";

/** The tiny configuration with some keys of one part set, or taken out by undefined. */
const withText = (keys: object) => ({ ...tinyConfig, text_config: { ...tinyConfig.text_config, ...keys } });
const withVision = (keys: object) => ({ ...tinyConfig, vision_config: { ...tinyConfig.vision_config, ...keys } });

test("the spellings of transformers 4 and 5 say the same", () => {
  const { rope_scaling, rope_theta } = tinyConfig.text_config;
  const five = withText({
    rope_scaling: undefined,
    rope_theta: undefined,
    rope_parameters: { ...rope_scaling, rope_theta },
    dtype: "bfloat16",
  });
  expect(parseQwen3VlConfig(five)).toEqual(parseQwen3VlConfig(tinyConfig));
});

test("sizes arrive under their letters", () => {
  const { text, vision, imageToken, videoToken } = parseQwen3VlConfig(tinyConfig);
  expect(text).toMatchObject({ D: 24, H: 6, G: 2, K: 12, F: 40, V: 97, layers: 3, tied: true, maxPositions: 128 });
  expect(vision).toMatchObject({ D: 16, H: 2, K: 8, F: 20, depth: 3, side: 5, merge: 2, deepstack: [0, 2], out: 24 });
  expect([imageToken, videoToken]).toEqual([90, 91]);
});

test("whether the head is tied is said at the top, or else in the text part, or else it is not", () => {
  const { tie_word_embeddings: _, ...rest } = tinyConfig;
  const tied = (json: object): boolean => parseQwen3VlConfig(json).text.tied;
  expect(tied({ ...withText({ tie_word_embeddings: false }), tie_word_embeddings: true })).toBe(true);
  expect(tied({ ...rest, text_config: { ...rest.text_config, tie_word_embeddings: true } })).toBe(true);
  expect(tied(rest)).toBe(false);
});

test.for(Object.entries(presets))("the preset %s is a configuration", ([, preset]) => {
  expect(parseQwen3VlConfig(preset).text.D).toBe(preset.text_config.hidden_size);
});

test.for([
  [
    "another architecture",
    { ...tinyConfig, model_type: "qwen2_5_vl" },
    /my.json: model_type is "qwen2_5_vl".*"qwen3_vl"/,
  ],
  ["no architecture", {}, /model_type is missing/],
  ["no object", null, /model_type is missing/],
  ["a missing size", withText({ hidden_size: undefined }), /text_config.hidden_size/],
  ["a size that is text", withText({ vocab_size: "97" }), /text_config.vocab_size.*"97"/],
  ["a size no machine has", withText({ vocab_size: 2 ** 40 }), /text_config.vocab_size/],
  ["heads that do not share", withText({ num_key_value_heads: 4 }), /num_key_value_heads: 4 do not divide the 6 heads/],
  ["an odd head", withText({ head_dim: 13 }), /head_dim/],
  ["sections of another head", withText({ head_dim: 14 }), /adds up to 6, not to half of head_dim 14/],
  [
    "scaled rotation",
    withText({ rope_scaling: { ...tinyConfig.text_config.rope_scaling, rope_type: "yarn" } }),
    /rope_type.*"yarn"/,
  ],
  ["no rotation", withText({ rope_scaling: null }), /rope_scaling: is missing/],
  ["no theta", withText({ rope_theta: undefined }), /rope_theta: is missing/],
  ["another activation", withText({ hidden_act: "relu" }), /hidden_act.*"relu"/],
  [
    "a tower of another width",
    withVision({ out_hidden_size: 32 }),
    /out_hidden_size: is 32, but text_config.hidden_size is 24/,
  ],
  ["a table that is no square", withVision({ num_position_embeddings: 24 }), /24 is no square/],
  ["a feature of no block", withVision({ deepstack_visual_indexes: [0, 3] }), /\[0, 3\].*depth 3/],
  ["features out of order", withVision({ deepstack_visual_indexes: [2, 0] }), /ascending/],
  ["a head without quarters", withVision({ num_heads: 8 }), /no quarters/],
] as const)("%s is refused", ([, json, message]) => {
  const parse = (): unknown => parseQwen3VlConfig(json, "my.json");
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(message);
});
