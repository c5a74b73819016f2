/** The golden operators as this package says them: its own ops where it has them, compositions where it has not. */
import { applyRotary, attention, layerNorm, linear, rmsNorm, swiglu } from "../../src/compositions.ts";
import type { Device } from "../../src/gpu/device.ts";
import * as losses from "../../src/losses.ts";
import { mul } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/create.ts";
import { gatherRows } from "../../src/ops/gather.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { slice } from "../../src/ops/movement.ts";
import { pad } from "../../src/ops/pad.ts";
import { sum } from "../../src/ops/reduce.ts";
import { reshape, unsqueeze } from "../../src/ops/reshape.ts";
import { logSoftmax, softmax } from "../../src/ops/softmax.ts";
import { unary } from "../../src/ops/unary.ts";
import type { Tensor } from "../../src/tensor.ts";
import { difference, expect, type Tolerance } from "../../src/testing.ts";
import { type Numbers, tolerances } from "./golden-ops.ts";
import {
  interpolationTaps,
  inverseFrequencies,
  multimodalRotation,
  patchRotation,
  type Rotation,
  textRotation,
} from "./position-tables.ts";

const { elementwise, product } = tolerances;

/** One case with its tensors at hand. Asking for one that is not there is an error. */
export interface Run {
  readonly device: Device;
  /** Inputs and integers on the device, by name. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Integers and extras on the host, by name. */
  readonly host: Readonly<Record<string, Numbers>>;
  readonly attr: <T extends "number" | "boolean" | "string">(name: string, type: T, usual?: Kinds[T]) => Kinds[T];
  readonly attrs: Readonly<Record<string, unknown>>;
}

/** The types of attributes. */
interface Kinds {
  number: number;
  boolean: boolean;
  string: string;
}

/** The operator: its one output, or outputs by name. */
export type Operator = (run: Run) => Tensor | Readonly<Record<string, Tensor>>;

const upload = (device: Device, { shape, values }: Numbers): Tensor =>
  tensor(device, Float64Array.from(values), { shape });

/** Rotates by a table that is broadcast over the heads, after a look at the table itself. */
function rotated({ device, tensors: { q }, host }: Run, table: Rotation): Tensor {
  checkTable(host, table);
  const [cos, sin] = rotation(device, table);
  return applyRotary(q as Tensor, unsqueeze(cos, 1), unsqueeze(sin, 1));
}

function checkTable(host: Run["host"], table: Rotation): void {
  for (const name of ["cos", "sin"] as const) {
    const want = host[name];
    if (want) expect(difference(table[name].values, want.values, want.shape, elementwise), name).toBeNull();
  }
}

const rotation = (device: Device, { cos, sin }: Rotation): [Tensor, Tensor] => [
  upload(device, cos),
  upload(device, sin),
];

const twoTensors =
  (loss: (predicted: Tensor, target: Tensor) => Tensor): Operator =>
  ({ tensors: { predicted, target } }) =>
    loss(predicted as Tensor, target as Tensor);

const ofX =
  (f: (x: Tensor) => Tensor): Operator =>
  ({ tensors: { x } }) =>
    f(x as Tensor);

const alongDim =
  (f: (x: Tensor, axis: number) => Tensor): Operator =>
  ({ tensors: { x }, attr }) =>
    f(x as Tensor, attr("dim", "number"));

/** What each operator is, and how close it must come. */
export const operators: Readonly<Record<string, readonly [Operator, Tolerance]>> = {
  silu: [ofX(unary.silu), elementwise],
  gelu_tanh: [ofX(unary.geluTanh), elementwise],
  gelu_erf: [ofX(unary.gelu), elementwise],
  softmax: [alongDim(softmax), elementwise],
  log_softmax: [alongDim(logSoftmax), elementwise],
  rms_norm: [
    ({ tensors: { x, weight }, attr }) => rmsNorm(x as Tensor, weight as Tensor, attr("eps", "number")),
    elementwise,
  ],
  layer_norm: [
    ({ tensors: { x, weight, bias }, attr }) =>
      layerNorm(x as Tensor, weight as Tensor, bias as Tensor, attr("eps", "number")),
    elementwise,
  ],

  matmul: [
    ({ tensors: { a, b }, attr }) =>
      matmul(a as Tensor, b as Tensor, {
        transposeA: attr("transpose_a", "boolean"),
        transposeB: attr("transpose_b", "boolean"),
      }),
    product,
  ],
  linear: [({ tensors: { x, weight, bias } }) => linear(x as Tensor, weight as Tensor, bias), product],
  swiglu: [
    ({ tensors: { x, gate, up, down } }) => swiglu(x as Tensor, gate as Tensor, up as Tensor, down as Tensor),
    product,
  ],
  conv3d_patch_embed: [
    ({ tensors: { x, weight, bias } }) => {
      const [embed] = (weight as Tensor).shape as [number];
      return linear(x as Tensor, reshape(weight as Tensor, [embed, -1]), bias);
    },
    product,
  ],
  attention: [
    ({ tensors: { q, k, v, mask }, attr }) =>
      attention(q as Tensor, k as Tensor, v as Tensor, {
        scale: attr("scale", "number"),
        causal: attr("causal", "boolean"),
        mask: mask ?? null,
      }),
    product,
  ],

  embedding: [({ tensors: { weight, ids } }) => gatherRows(weight as Tensor, ids as Tensor), elementwise],
  pos_embed_interp: [
    ({ device, tensors: { table }, host, attr }) => {
      const side = attr("side", "number");
      const taps = interpolationTaps(host["grid_thw"] as Numbers, side, attr("spatial_merge_size", "number"));
      if (host["indices"] && host["weights"]) {
        const want = spread({ indices: host["indices"], weights: host["weights"] }, side);
        expect(difference(spread(taps, side), want, [want.length / side ** 2, side, side], elementwise)).toBeNull();
      }
      const cells = gatherRows(table as Tensor, tensor(device, Int32Array.from(taps.indices.values), taps.indices));
      return sum(mul(cells, unsqueeze(upload(device, taps.weights), -1)), 1);
    },
    elementwise,
  ],
  rotary: [
    ({ device, tensors: { q, k }, host, attr, attrs }) => {
      const frequencies = inverseFrequencies((q as Tensor).shape.at(-1) as number, attr("theta", "number"));
      const want = host["inv_freq"];
      // The last bit of a power may differ; far along the text a whole table would.
      if (want) expect(difference(frequencies, want.values, want.shape, { relative: 2 ** -22 })).toBeNull();
      const table = textRotation(attrs["positions"] as number[], want?.values ?? frequencies);
      checkTable(host, table);
      const [cos, sin] = rotation(device, table);
      return { q_rot: applyRotary(q as Tensor, cos, sin), k_rot: applyRotary(k as Tensor, cos, sin) };
    },
    elementwise,
  ],
  mrope: [
    (run) => {
      const width = (run.tensors["q"] as Tensor).shape.at(-1) as number;
      const frequencies = inverseFrequencies(width, run.attr("theta", "number"));
      const ids = run.host["position_ids"] as Numbers;
      return rotated(run, multimodalRotation(ids, run.attr("lane_axis", "string"), frequencies));
    },
    elementwise,
  ],
  vision_rope: [
    (run) => {
      const width = (run.tensors["q"] as Tensor).shape.at(-1) as number;
      const frequencies = inverseFrequencies(width / 2, run.attr("theta", "number"));
      return rotated(run, patchRotation(run.host["position_ids"] as Numbers, frequencies));
    },
    elementwise,
  ],

  cross_entropy: [
    ({ tensors: { logits, labels }, attr }) => {
      const ignoreIndex = attr("ignore_index", "number", -100);
      const shifted = attr("note", "string", "").includes("t+1");
      const next = shifted
        ? pad(
            slice(labels as Tensor, null, [1]),
            [
              [0, 0],
              [0, 1],
            ],
            ignoreIndex,
          )
        : (labels as Tensor);
      return losses.crossEntropy(logits as Tensor, next, { ignoreIndex });
    },
    elementwise,
  ],
  loss_mse: [twoTensors(losses.meanSquaredError), elementwise],
  loss_huber: [
    ({ tensors: { predicted, target }, attr }) =>
      losses.huberLoss(predicted as Tensor, target as Tensor, { delta: attr("delta", "number", 1) }),
    elementwise,
  ],
  loss_kl: [twoTensors(losses.klDivergence), elementwise],
  loss_cosine: [twoTensors(losses.cosineLoss), elementwise],
  loss_stable_similarity: [twoTensors(losses.stableSimilarity), elementwise],
};

/** Each patch's weights over the whole table: which of two cells a weight of 0 belongs to does not matter there. */
function spread({ indices, weights }: { indices: Numbers; weights: Numbers }, side: number): number[] {
  const [patches, taps] = indices.shape as [number, number];
  const out = Array<number>(patches * side ** 2).fill(0);
  for (const [i, index] of indices.values.entries()) {
    const at = Math.floor(i / taps) * side ** 2 + index;
    out[at] = (out[at] as number) + (weights.values[i] as number);
  }
  return out;
}
