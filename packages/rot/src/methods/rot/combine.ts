/** The latent loss and the language loss as one number. */
import { binary, scope, type Tensor, unary } from "@rot/tensor";

const { add, mul } = binary;

/** Fixed weights, or two trained logarithms of variances. */
export type LossWeights =
  | { readonly vision: number; readonly language: number }
  /** Scalars s on the device, [1] each; a loss L counts ½ e^−s L + ½ s, s within ±10. */
  | { readonly logVarianceVision: Tensor; readonly logVarianceLanguage: Tensor };

/** The sum, and how fast it grows with each part. Scalars on the device. */
export interface Combined {
  readonly loss: Tensor;
  readonly ofVision: Tensor;
  readonly ofLanguage: Tensor;
}

/**
 * Adds the parts up.
 *
 * @param share  the part of a step that the losses are of: the terms of the variances alone count so much
 * @see Kendall et al. 2018, https://arxiv.org/abs/1705.07115, for the uncertainty weighting
 */
export function combine(vision: Tensor, language: Tensor, weights: LossWeights, share = 1): Combined {
  return scope(() => {
    const one = vision.detach().mul(0).add(1);
    if ("vision" in weights) {
      const loss = add(mul(vision, weights.vision), mul(language, weights.language));
      return { loss, ofVision: mul(one, weights.vision), ofLanguage: mul(one, weights.language) };
    }
    const part = (loss: Tensor, logVariance: Tensor): readonly [sum: Tensor, slope: Tensor] => {
      const s = binary.maximum(binary.minimum(logVariance.sum(), 10), -10);
      const slope = mul(0.5, unary.exp(unary.neg(s)));
      return [add(mul(slope, loss), mul(0.5 * share, s)), slope];
    };
    const [v, ofVision] = part(vision, weights.logVarianceVision);
    const [l, ofLanguage] = part(language, weights.logVarianceLanguage);
    return { loss: add(v, l), ofVision, ofLanguage };
  });
}
