/**
 * The projection head φ: from the decoder's last hidden state to the next latent.
 *
 * @see Wang et al. 2026, "Render-of-Thought", https://arxiv.org/abs/2601.14750, section 3.3 and table 5
 */
import { layerNorm, linear, swiglu } from "@rot/kernels";
import { type Weights } from "@rot/models";
import { type Device, init, key, ones, type Seed, type Shape, scope, type Tensor, zeros } from "@rot/tensor";

/** What stands between the two linears of the head; `swiglu` is the paper's choice, the others are of its table 5. */
export const headActivations = ["swiglu", "gelu", "relu"] as const;

/** The dimensions of a head. */
export interface HeadConfig {
  /** D: the width of the decoder, and of the latents. */
  readonly width: number;
  /** p: 4096 in the paper, 2048 in the published configurations. */
  readonly hidden: number;
  readonly activation: (typeof headActivations)[number];
}

/** A function of hidden states [..., D] to latents [..., D]. */
export type ProjectionHead = (hidden: Tensor) => Tensor;

/** The published head normalises with this epsilon. */
const EPSILON = 1e-6;

/** Names and shapes of the parameters, as the published `projection_head.bin` has them. */
export function headParameters({ width: D, hidden: p, activation }: HeadConfig): Map<string, Shape> {
  const gated: [string, Shape][] = ["w1", "w2", "w3"].map((name) => [`2.${name}.weight`, [p, p]]);
  return new Map<string, Shape>([
    ["0.weight", [D]],
    ["0.bias", [D]],
    ["1.weight", [p, D]],
    ["1.bias", [p]],
    ...(activation === "swiglu" ? gated : []),
    ["3.weight", [D, p]],
    ["3.bias", [D]],
  ]);
}

/** A head over a weights view: LayerNorm, Linear, w3(silu(w1 x) · (w2 x)) or an activation, Linear. */
export function projectionHead(w: Weights, config: HeadConfig): ProjectionHead {
  const get = (name: string): Tensor => w.get(name, headParameters(config).get(name) as Shape);
  const [gain, shift] = [get("0.weight"), get("0.bias")];
  const [into, intoBias] = [get("1.weight"), get("1.bias")];
  const [out, outBias] = [get("3.weight"), get("3.bias")];
  const { activation } = config;
  const [w1, w2, w3] = activation === "swiglu" ? ["w1", "w2", "w3"].map((name) => get(`2.${name}.weight`)) : [];
  return (hidden) =>
    scope(() => {
      const normed = layerNorm(hidden, gain, shift, { eps: EPSILON });
      if (activation !== "swiglu") return linear(linear(normed, into, intoBias, { activation }), out, outBias);
      const x = linear(normed, into, intoBias);
      const gated = swiglu(linear(x, w1 as Tensor), linear(x, w2 as Tensor));
      return linear(linear(gated, w3 as Tensor), out, outBias);
    });
}

/**
 * Fresh parameters, as PyTorch makes them: linears uniform in ±1/√inputs, the norm 1 and 0.
 *
 * @param seed  each parameter is a function of it and of its name
 * @returns     by name; f32, the caller's
 */
export function createHead(config: HeadConfig, device: Device, seed: Seed): Map<string, Tensor> {
  const shapes = headParameters(config);
  // One scope, so that none stays when there is no room for all.
  return scope(
    () =>
      new Map(
        [...shapes].map(([name, shape]) => {
          if (name.startsWith("0.")) return [name, (name === "0.weight" ? ones : zeros)(device, shape)];
          const inputs = (shapes.get(name.replace("bias", "weight")) as Shape)[1] as number;
          const bound = 1 / Math.sqrt(inputs);
          return [name, init.uniform(device, shape, { from: -bound, to: bound, seed: key(seed).for(name) })];
        }),
      ),
  );
}
