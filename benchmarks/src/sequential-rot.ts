/**
 * A training step as the published code does it: one sample after another, each through K decoder calls with a cache whose
 * keys and values stay on the tape, then a pass over the whole sequence. What our batched step is measured against.
 */
import { linearCrossEntropy } from "@rot/kernels";
import { type KeysValues, type Pretrained, weightsOf, withLora } from "@rot/models";
import { concat, grad, keep, meanSquaredError, scope, type Tensor, tensor } from "@rot/tensor";
import type { ProjectionHead } from "../../packages/rot/src/methods/rot/head.ts";
import type { TrainingSample } from "../../packages/rot/src/methods/rot/step.ts";
import { textRotation } from "../../packages/models/src/qwen3-vl/rotation.ts";
import { textDecoder } from "../../packages/models/src/qwen3-vl/text.ts";

/** What is minimised: a sum with these weights. */
export interface SequentialWeights {
  readonly vision: number;
  readonly language: number;
}

/** The step. */
export type SequentialStep = (
  batch: readonly TrainingSample[],
  parameters: readonly Tensor[],
  weights: SequentialWeights,
) => Promise<{ readonly loss: Tensor; readonly gradients: readonly Tensor[] }>;

/** A step over a model, whose adapters learn if it has any, and else the head. */
export function sequentialStep({ model, weights, lora, config }: Pretrained, head: ProjectionHead): SequentialStep {
  const { device } = model;
  const base = weightsOf(weights, device);
  const view = lora ? withLora(base, lora) : base;
  const decode = textDecoder(view.at("model.language_model"), config.text);
  const { layers } = config.text;

  const call = (embeddings: Tensor, from: number, past: (KeysValues | undefined)[] | null): Tensor => {
    const L = embeddings.shape[1] as number;
    const positions = Int32Array.from({ length: 3 * L }, (_, i) => from + (i % L));
    const { cos, sin } = textRotation(device, positions, [1, L], config.text);
    const append = (layer: number, fresh: KeysValues): KeysValues => {
      if (!past) return fresh;
      const before = past[layer];
      const all = before
        ? { keys: concat([before.keys, fresh.keys], 1), values: concat([before.values, fresh.values], 1) }
        : fresh;
      // A reshape stays on the tape, where an alias would not.
      past[layer] = {
        keys: keep(all.keys.reshape(...all.keys.shape)),
        values: keep(all.values.reshape(...all.values.shape)),
      };
      return all;
    };
    return decode(embeddings, { cos, sin, visible: null, causal: true }, { append });
  };
  const embed = (ids: Int32Array): Tensor => model.embed(tensor(device, ids, { shape: [1, ids.length], dtype: "i32" }));

  const sample = ({ question, answer, target }: TrainingSample, share: SequentialWeights): Tensor => {
    const [K, D] = target.shape as [number, number];
    const past = Array<KeysValues | undefined>(layers).fill(undefined);
    const prompt = embed(question);
    let next = prompt;
    let from = 0;
    const latents: Tensor[] = [];
    let vision: Tensor | null = null;
    for (let t = 0; t < K; t++) {
      const hidden = call(next, from, past);
      from += next.shape[1] as number;
      const latent = head(hidden.slice(null, [hidden.shape[1]! - 1]).reshape(1, D));
      latents.push(latent);
      const loss = meanSquaredError(latent, target.slice([t, t + 1]));
      vision = vision ? vision.add(loss) : loss;
      next = latent.detach().reshape(1, 1, D);
    }
    const rows = concat([prompt, concat(latents).reshape(1, K, D), embed(answer.slice(0, -1))], 1);
    const hidden = call(rows, 0, null);
    const begin = question.length + K - 1;
    const supervised = hidden.slice(null, [begin, begin + answer.length]).reshape(answer.length, D);
    const language = linearCrossEntropy(supervised, model.head, answer);
    for (const kept of past) {
      kept?.keys.dispose();
      kept?.values.dispose();
    }
    return (vision as Tensor).mul(share.vision / K).add(language.mul(share.language));
  };

  return async (batch, parameters, given) => {
    let loss: Tensor | null = null;
    let gradients: Tensor[] | null = null;
    const add = (sum: Tensor | null, part: Tensor): Tensor => {
      if (!sum) return part;
      const both = sum.add(part);
      sum.dispose();
      part.dispose();
      return both;
    };
    for (const one of batch) {
      const share = { vision: given.vision / batch.length, language: given.language / batch.length };
      const part = scope(() => {
        const own = sample(one, share);
        return { loss: own.detach(), gradients: grad(own, parameters) };
      });
      loss = add(loss, part.loss);
      gradients = part.gradients.map((gradient, i) => add(gradients?.[i] ?? null, gradient));
      // lavapipe crashes with the commands of several such tapes in its queue.
      await device.sync();
    }
    return { loss: loss as Tensor, gradients: gradients as Tensor[] };
  };
}
