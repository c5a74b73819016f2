/** Qwen3-VL: a vision tower, a decoder, and what ties them together. */
import { gatherRows, print, scope, ShapeError } from "@rot/tensor";
import { visibleKeys } from "@rot/kernels";
import { KvCache, spansOf } from "../kv-cache.ts";
import { logitsOf } from "../layers.ts";
import type { ForwardOptions, VisionLanguageModel } from "../vision-language-model.ts";
import type { Weights } from "../weights/weights.ts";
import type { Qwen3VlConfig } from "./config.ts";
import { layOut } from "./positions.ts";
import { textRotation } from "./rotation.ts";
import { textDecoder } from "./text.ts";
import { visionTower } from "./vision.ts";

/**
 * A Qwen3-VL over a checkpoint's weights, which stay the caller's.
 *
 * @param w  the root of the checkpoint
 * @see Qwen3VLForConditionalGeneration in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
export function qwen3Vl(w: Weights, config: Qwen3VlConfig): VisionLanguageModel {
  const { text } = config;
  const { D, V, G, K } = text;
  const language = w.at("model.language_model");
  const embedding = language.get("embed_tokens.weight", [V, D]);
  const decode = textDecoder(language, text);
  const see = visionTower(w.at("model.visual"), config.vision);
  const head = text.tied ? embedding : w.get("lm_head.weight", [V, D]);

  return {
    get device() {
      return w.device;
    },
    width: D,
    vocabulary: V,
    maxPositions: text.maxPositions,
    head,
    embed: (ids) => scope(() => gatherRows(embedding, ids).to("f32")),
    imageFeatures: see,
    layOut: (ids, grids, valid) => layOut(config, ids, grids, valid),
    logits: (hidden) => logitsOf(hidden, head),

    forward(embeddings, options = {}) {
      const [B = 0, L = 0, width] = embeddings.shape;
      if (embeddings.rank !== 3 || width !== D || B === 0 || L === 0) {
        throw new ShapeError(`forward: the embeddings are ${print(embeddings.shape)}, not [B, L, ${D}]`);
      }
      const { cache, positions } = options;
      if (positions && positions.length !== 3 * B * L) {
        throw new ShapeError(`forward: ${positions.length} positions for [3, ${B}, ${L}]`);
      }
      if (cache && cache.sequences !== B) {
        throw new ShapeError(`forward: the cache is of ${cache.sequences} sequences, the embeddings of ${B}`);
      }
      const { device } = embeddings;
      return scope(() => {
        const step = cache?.begin(L, options.valid);
        const counted = (): Int32Array => onAllAxes(step?.positions ?? fromZero(B, L, options));
        const { cos, sin } = textRotation(device, positions ?? counted(), [B, L], text);
        const seen = options.visible ?? step?.visible ?? paddedLeft();
        const context = { cos, sin, visible: seen, causal: !step && !options.visible, rules: options.rules };
        const hidden = decode(embeddings, context, { ...options, append: step && ((...next) => step.append(...next)) });
        step?.commit(positions);
        return hidden;
      });

      /** Padding on the right comes after all who could see it; only that on the left must be hidden. */
      function paddedLeft() {
        const spans = spansOf(B, L, options.valid);
        if (spans.every(([begin]) => begin === 0)) return null;
        const starts = spans.map(([begin]) => begin);
        return visibleKeys.padded(device, { starts, lengths: starts.map(() => L), queries: L });
      }
    },

    newCache: (sequences, options) =>
      new KvCache(
        w.device,
        { layers: text.layers, sequences, heads: G, headWidth: K },
        { limit: text.maxPositions, ...options },
      ),
  };
}

/** [B, L]: every sequence counts from its first token on. */
function fromZero(B: number, L: number, { valid }: ForwardOptions): Int32Array {
  const positions = new Int32Array(B * L);
  for (const [b, [begin, end]] of spansOf(B, L, valid).entries()) {
    for (let l = begin; l < end; l++) positions[b * L + l] = l - begin;
  }
  return positions;
}

/** Text stands at the same time, height and width. */
function onAllAxes(positions: Int32Array): Int32Array {
  const all = new Int32Array(3 * positions.length);
  for (let axis = 0; axis < 3; axis++) all.set(positions, axis * positions.length);
  return all;
}
