/**
 * The angles by which heads are turned: three axes interleaved for the decoder, two for the vision tower.
 *
 * They are rounded to f32 where transformers rounds them: at position 30,000 that moves an angle by a thousandth.
 *
 * Axes: B sequences · L tokens · P patches · K head width
 */
import { type Device, tensor, type Tensor } from "@rot/tensor";
import type { Grid } from "../vision-language-model.ts";
import type { TextConfig, VisionConfig } from "./config.ts";
import { patchesOf } from "./patches.ts";

/** Tables of cosines and sines, f32, as `rotary` takes them. */
export interface Rotation {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

const { fround } = Math;

/** theta^(−2j / width) for j below width / 2. */
const frequencies = (theta: number, width: number): Float32Array =>
  Float32Array.from({ length: width / 2 }, (_, j) => 1 / fround(theta ** fround((2 * j) / width)));

/** Cosines and sines of rows of K/2 angles; the other half of each row repeats them. */
function tables(device: Device, lead: readonly number[], K: number, angles: Float32Array): Rotation {
  const half = K / 2;
  const cos = new Float32Array(2 * angles.length);
  const sin = new Float32Array(2 * angles.length);
  for (const [i, angle] of angles.entries()) {
    const at = Math.floor(i / half) * K + (i % half);
    cos[at] = cos[at + half] = Math.cos(angle);
    sin[at] = sin[at + half] = Math.sin(angle);
  }
  const shape = [...lead, K];
  return { cos: tensor(device, cos, { shape }), sin: tensor(device, sin, { shape }) };
}

/**
 * Interleaved multimodal rotary embedding: frequencies 1, 4, 7, … turn with the height, 2, 5, 8, … with the width, as many
 * as their section says, and all others with the time.
 *
 * @param positions  [3, B, L] as one array
 * @returns          [B, L, K]
 * @see Qwen3VLTextRotaryEmbedding in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
export function textRotation(
  device: Device,
  positions: Int32Array,
  [B, L]: readonly [number, number],
  { K, ropeTheta, mropeSection }: Pick<TextConfig, "K" | "ropeTheta" | "mropeSection">,
): Rotation {
  const turns = frequencies(ropeTheta, K);
  const half = K / 2;
  const axes = Array.from(turns, (_, j) => (j < 3 * (mropeSection[j % 3] as number) ? j % 3 : 0));
  const tokens = B * L;
  const angles = new Float32Array(tokens * half);
  for (let token = 0; token < tokens; token++) {
    for (let j = 0; j < half; j++) {
      const position = positions[(axes[j] as number) * tokens + token] as number;
      angles[token * half + j] = position * (turns[j] as number);
    }
  }
  return tables(device, [B, L], K, angles);
}

/** Base of the frequencies of the vision tower. */
const VISION_THETA = 10_000;

/**
 * Two-dimensional rotary embedding: the first quarter of a head turns with the row of its patch, the second with the column.
 *
 * @returns  [P, K], the patches of all images in the order of their pixels
 * @see Qwen3VLVisionRotaryEmbedding in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
export function visionRotation(device: Device, grids: readonly Grid[], { K, merge }: VisionConfig): Rotation {
  const turns = frequencies(VISION_THETA, K / 2);
  const { rows, columns } = patchesOf(grids, merge);
  const angles = new Float32Array((rows.length * K) / 2);
  let at = 0;
  for (const [patch, row] of rows.entries()) {
    for (const place of [row, columns[patch] as number]) for (const turn of turns) angles[at++] = place * turn;
  }
  return tables(device, [rows.length], K, angles);
}
