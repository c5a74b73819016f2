import { expect, test } from "vitest";
import { WeightsError } from "../weights/error.ts";
import { parseAdapterConfig, printAdapterConfig } from "./config.ts";

const plain = { peft_type: "LORA", r: 4, lora_alpha: 8, target_modules: ["q_proj"] };

test("what is written is read again", () => {
  const config = {
    r: 16,
    alpha: 32,
    dropout: 0.05,
    rslora: true,
    targetModules: ["q_proj", "v_proj"],
    excludeModules: String.raw`.*\.0\..*`,
    rankPattern: new Map([["layers.0.q_proj", 8]]),
    alphaPattern: new Map([["q_proj", 1.5]]),
  };
  const text = printAdapterConfig(config, "base");
  expect(parseAdapterConfig(JSON.parse(text), "x")).toEqual(config);
  expect(text).toContain('\n  "base_model_name_or_path": "base",\n');
  const keys = Object.keys(JSON.parse(text) as object);
  expect(keys).toEqual(keys.toSorted());
});

test("fields that PEFT writes and that change nothing are let be, set to nothing or not", () => {
  const more = {
    task_type: "CAUSAL_LM",
    megatron_core: "megatron.core",
    loftq_config: {},
    use_dora: false,
    new_field: null,
  };
  expect(parseAdapterConfig({ ...plain, ...more }, "x")).toMatchObject({ r: 4, alpha: 8, dropout: 0, rslora: false });
});

test.for([
  [{ use_dora: true }, '"use_dora" is true, which is not supported'],
  [{ modules_to_save: ["lm_head"] }, '"modules_to_save" is ["lm_head"], which is not supported'],
  [{ layers_to_transform: [1] }, '"layers_to_transform"'],
  [{ fan_in_fan_out: true }, '"fan_in_fan_out"'],
  [{ lora_bias: true }, '"lora_bias"'],
  [{ trainable_token_indices: [1] }, '"trainable_token_indices"'],
  [{ some_future_field: "on" }, '"some_future_field" is "on"'],
  [{ bias: "all" }, "bias: "],
  [{ init_lora_weights: "pissa" }, "init_lora_weights: "],
  [{ peft_type: "IA3" }, "peft_type: "],
  [{ r: 0 }, "r: "],
  [{ r: 1.5 }, "r: "],
  [{ r: 2 ** 30 }, "r: "],
  [{ lora_alpha: "8" }, "lora_alpha: "],
  [{ lora_dropout: 1 }, "lora_dropout: "],
  [{ target_modules: [] }, "target_modules: "],
  [{ target_modules: null }, "target_modules: "],
  [{ rank_pattern: { q_proj: -1 } }, "rank_pattern.q_proj: "],
  [{ alpha_pattern: { q_proj: "1" } }, "alpha_pattern.q_proj: "],
] as const)("%j is refused by name", ([field, why]) => {
  expect(() => parseAdapterConfig({ ...plain, ...field }, "x.json")).toThrow(WeightsError);
  expect(() => parseAdapterConfig({ ...plain, ...field }, "x.json")).toThrow(`x.json: ${why}`);
});

test("more patterns than a model has modules are refused", () => {
  const rank_pattern = Object.fromEntries(Array.from({ length: 2001 }, (_, i) => [`layers.${i}`, 1]));
  expect(() => parseAdapterConfig({ ...plain, rank_pattern }, "x")).toThrow("x: rank_pattern: has more than 2000 keys");
});

test("what is no object is refused", () => {
  for (const json of [null, [], "x", 1]) expect(() => parseAdapterConfig(json, "x")).toThrow(WeightsError);
});
