import { size } from "@rot/tensor";
import { expect, test } from "vitest";
import { presets } from "./presets.ts";
import { parseQwen3VlConfig } from "./qwen3-vl/config.ts";
import { qwen3Vl } from "./qwen3-vl/qwen3-vl.ts";
import { recordArchitecture } from "./weights/architecture.ts";

/** Parameters of the published checkpoints, by `total_size` / 2 of their indexes or the size of their one file. */
const counts = { "qwen3-vl-2b": 2_127_532_032, "qwen3-vl-4b": 4_437_815_808, "qwen3-vl-8b": 8_767_123_696 } as const;

test.for(Object.entries(counts))("%s has as many parameters as the published checkpoint", ([name, count]) => {
  const config = parseQwen3VlConfig(presets[name as keyof typeof counts]);
  const { parameters, linears } = recordArchitecture((w) => qwen3Vl(w, config));
  expect([...parameters.values()].reduce((sum, shape) => sum + size(shape), 0)).toBe(count);
  expect(linears.get("model.language_model.layers.0.self_attn.q_proj")).toEqual([config.text.H * 128, config.text.D]);
});

test("tiny is tiny and has every part of the large ones", () => {
  const { parameters } = recordArchitecture((w) => qwen3Vl(w, parseQwen3VlConfig(presets.tiny)));
  expect([...parameters.values()].reduce((sum, shape) => sum + size(shape), 0)).toBeLessThan(15e6);
  const kinds = (name: keyof typeof presets): Set<string> =>
    new Set(
      [...recordArchitecture((w) => qwen3Vl(w, parseQwen3VlConfig(presets[name]))).parameters.keys()].map((key) =>
        key.replaceAll(/\.\d+\./g, ".N."),
      ),
    );
  expect(kinds("tiny")).toEqual(kinds("qwen3-vl-2b"));
});
