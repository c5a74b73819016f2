/**
 * The vision tower of Qwen3-VL: patches of images of any sizes, one after the other in one sequence.
 *
 * Axes: P patches · N image tokens · D width of a patch · H heads · K head width · F width inside the MLP
 *
 * @see Qwen3VLVisionModel in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
import { attention, linear as product, rotary, visibleKeys } from "@rot/kernels";
import { checkpoint, gatherRows, print, scope, ShapeError, tensor, type Tensor } from "@rot/tensor";
import { layerNorm, linear } from "../layers.ts";
import type { ForwardOptions, Grid, ImageFeatures } from "../vision-language-model.ts";
import type { Weights } from "../weights/weights.ts";
import type { VisionConfig } from "./config.ts";
import { checkGrids, countPatches, frameEnds, samplePositions } from "./patches.ts";
import { visionRotation } from "./rotation.ts";

const EPS = 1e-6;
const bias = true;

/** The convolution over patches that do not overlap, as the one product that it is. */
function patchEmbedding(w: Weights, { D, channels, frames, patch }: VisionConfig) {
  const weight = w.get("proj.weight", [D, channels, frames, patch, patch]);
  const offset = w.get("proj.bias", [D]);
  /** [P, values] → [P, D] */
  return (pixels: Tensor): Tensor => product(pixels, weight.reshape(D, -1), offset);
}

/** The learned table of positions, stretched over each image. */
function positionEmbedding(w: Weights, { D, side, merge }: VisionConfig) {
  const table = w.get("weight", [side * side, D]);
  /** → [P, D] */
  return (grids: readonly Grid[]): Tensor => {
    const { entries, weights } = samplePositions(grids, merge, side);
    const shape = [weights.length / 4, 4, 1];
    return gatherRows(table, entries)
      .reshape(-1, 4, D)
      .mul(tensor(table.device, weights, { shape }))
      .sum(1);
  };
}

/** Attention of all patches of a frame to each other. */
function selfAttention(w: Weights, { D, H, K }: VisionConfig) {
  const qkv = linear(w.at("qkv"), 3 * D, D, { bias });
  const project = linear(w.at("proj"), D, D, { bias });

  /** [P, D] → [P, D], added to the residual */
  return (x: Tensor, residual: Tensor, cos: Tensor, sin: Tensor, visible: Tensor): Tensor => {
    const [q, k, v] = qkv(x)
      .split(D, -1)
      .map((part) => part.reshape(1, -1, H, K)) as [Tensor, Tensor, Tensor];
    const turn = (heads: Tensor): Tensor => rotary(heads, cos, sin, { heads: true });
    const y = attention(turn(q), turn(k), v, { scale: K ** -0.5, visible });
    return project(y.reshape(-1, D), { residual });
  };
}

function block(w: Weights, config: VisionConfig) {
  const { D, F } = config;
  const norm1 = layerNorm(w.at("norm1"), D, EPS);
  const norm2 = layerNorm(w.at("norm2"), D, EPS);
  const attend = selfAttention(w.at("attn"), config);
  const fc1 = linear(w.at("mlp").at("linear_fc1"), F, D, { bias });
  const fc2 = linear(w.at("mlp").at("linear_fc2"), D, F, { bias });

  /** [P, D] → [P, D] */
  return (x: Tensor, cos: Tensor, sin: Tensor, visible: Tensor): Tensor => {
    const y = attend(norm1(x), x, cos, sin, visible);
    return fc2(fc1(norm2(y), { activation: "geluTanh" }), { residual: y });
  };
}

/** Joins the patches of a block into one token of the decoder. DeepStack's mergers normalise after they join, not before. */
function merger(w: Weights, { D, merge, out }: VisionConfig, normalisesJoined: boolean) {
  const joined = merge * merge * D;
  const norm = layerNorm(w.at("norm"), normalisesJoined ? joined : D, EPS);
  const fc1 = linear(w.at("linear_fc1"), joined, joined, { bias });
  const fc2 = linear(w.at("linear_fc2"), out, joined, { bias });

  /** [P, D] → [N, out] */
  return (x: Tensor): Tensor => {
    const rows = normalisesJoined ? norm(x.reshape(-1, joined)) : norm(x).reshape(-1, joined);
    return fc2(fc1(rows, { activation: "gelu" }));
  };
}

/** From pixels to image tokens and DeepStack features. */
export function visionTower(w: Weights, config: VisionConfig) {
  const { channels, frames, patch, merge } = config;
  const embedPatches = patchEmbedding(w.at("patch_embed"), config);
  const embedPositions = positionEmbedding(w.at("pos_embed"), config);
  const blocks = Array.from({ length: config.depth }, (_, i) => block(w.at("blocks").at(i), config));
  const mergeTokens = merger(w.at("merger"), config, false);
  const taps = new Map(
    config.deepstack.map((at, i) => [at, merger(w.at("deepstack_merger_list").at(i), config, true)]),
  );

  /** [P, values of a patch] → [N, out] each */
  return (
    pixels: Tensor,
    grids: readonly Grid[],
    { recompute = false, observe }: Pick<ForwardOptions, "recompute" | "observe"> = {},
  ): ImageFeatures => {
    checkGrids(grids, merge);
    const values = channels * frames * patch * patch;
    const P = countPatches(grids);
    if (P === 0 || pixels.rank !== 2 || pixels.shape[0] !== P || pixels.shape[1] !== values) {
      throw new ShapeError(
        `imageFeatures: the pixels are ${print(pixels.shape)}; ${grids.length} images of ${P} patches take [${P}, ${values}]`,
      );
    }
    return scope(() => {
      const { device } = pixels;
      const { cos, sin } = visionRotation(device, grids, config);
      const visible = visibleKeys.segments(device, frameEnds(grids));
      const deepstack: Tensor[] = [];
      let x = scope(() => {
        const patches = embedPatches(pixels);
        observe?.("patch_embed", patches);
        const positions = embedPositions(grids);
        observe?.("pos_embed", positions);
        return patches.add(positions);
      });
      observe?.("blocks.0.input", x);
      for (const [i, run] of blocks.entries()) {
        const before = x;
        x = scope(() => (recompute ? checkpoint(run, x, cos, sin, visible) : run(x, cos, sin, visible)));
        before.dispose();
        observe?.(`blocks.${i}`, x);
        const tap = taps.get(i);
        if (tap) deepstack.push(scope(() => tap(x)));
      }
      return { tokens: scope(() => mergeTokens(x)), deepstack };
    });
  };
}
