import { expect, test } from "vitest";
import { cleanName } from "../state-dict.ts";
import { meaningOf, publishedNames } from "./names.ts";

const path = "model.language_model.layers.3.self_attn.q_proj";

test("every published name, whole or cleaned, means the key it was made of", () => {
  const keys = [
    `${path}.weight`,
    "model.visual.blocks.0.attn.qkv.bias",
    "model.language_model.norm.weight",
    "lm_head.weight",
  ];
  for (const lora of [false, true]) {
    for (const key of keys) {
      const names = publishedNames(key, lora, new Set(lora ? [path] : []));
      expect(names).toHaveLength(key.includes("visual") ? 1 : 2);
      for (const name of names) {
        for (const form of [name, `module.${name}`, cleanName(name)])
          expect(meaningOf(form), form).toEqual({ part: "model", key });
      }
    }
  }
});

test("the names are those of the published trainer", () => {
  expect(publishedNames(`${path}.weight`, true, new Set([path]))).toEqual([
    "vision_encoder.mllm_model.base_model.model.model.language_model.layers.3.self_attn.q_proj.base_layer.weight",
    "language_model.layers.3.self_attn.q_proj.base_layer.weight",
  ]);
  expect(publishedNames(`${path}.weight`, false, new Set())[0]).toBe(`vision_encoder.mllm_model.${path}.weight`);
  expect(publishedNames("lm_head.weight", true, new Set())).toEqual([
    "vision_encoder.mllm_model.base_model.model.lm_head.weight",
    "llm_lm_head.weight",
  ]);
});

test("adapters, the head and the parts of the trainer are told apart", () => {
  const key = `base_model.model.${path}.lora_A.weight`;
  for (const name of [
    `vision_encoder.mllm_model.base_model.model.${path}.lora_A.default.weight`,
    `base_model.model.${path}.lora_A.weight`,
    "language_model.layers.3.self_attn.q_proj.lora_A.default.weight",
  ]) {
    expect(meaningOf(name)).toEqual({ part: "adapter", key });
  }
  expect(meaningOf("module.projection_head.2.w1.weight")).toEqual({ part: "head", key: "2.w1.weight" });
  for (const name of ["text_renderer.font", "vision_encoder.sam.neck.0.weight", "module.vision_encoder.ocr.x"]) {
    expect(meaningOf(name)).toEqual({ part: "other" });
  }
});
