/**
 * The gradients of one batch of Render-of-Thought: what the published code gets by taping every sample through all of its
 * latent steps, from one batched roll-out off the tape and one parallel pass on it.
 *
 * - Stage 1: the decoder is frozen, so the hidden states of the roll-out are constants. φ runs once over all of them; the
 *   language loss reaches it through one pass of the decoder over [question, latents, answer].
 * - Stage 2: the same pass, over the detached latents, also gives the hidden states with their gradients, for a causal
 *   decoder does not see the answer from there. Two sweeps go back over it: one from the language loss, which also says
 *   what each latent should have been, and one from there through φ and the hidden states it was made of.
 *
 * @see Wang et al. 2026, "Render-of-Thought", https://arxiv.org/abs/2601.14750; models/cot_compressor.py at 68fa3d1
 */
import { linearCrossEntropy } from "@rot/kernels";
import type { VisionLanguageModel } from "@rot/models";
import { concat, grad, requireGrad, scope, type Tensor, tensor, untaped } from "@rot/tensor";
import { type BatchLayout, layOutBatch, rowWeights, type SampleTokens, type Weighting, type Whole } from "../../latent/batch.ts";
import { latentLoss, type LatentLossName, type LatentLossOptions, weighted } from "../../latent/losses.ts";
import { rolled, rollOut } from "../../latent/rollout.ts";
import { type Combined, combine, type LossWeights } from "./combine.ts";
import type { ProjectionHead } from "./head.ts";

/** A sample to learn from. */
export interface TrainingSample extends SampleTokens {
  /** [T, D], what the vision tower sees in the rendered chain. */
  readonly target: Tensor;
}

/** What a step needs to know besides the batch. */
export interface StepOptions extends LatentLossOptions {
  /** Whether the decoder learns; otherwise it is a constant. */
  readonly trainsDecoder: boolean;
  readonly loss: LatentLossName;
  readonly weights: LossWeights;
  /** Whether every sample counts alike, as in the published code, or every token. */
  readonly weighting: Weighting;
  /** What the whole step holds, where this batch is a part of it. */
  readonly whole?: { readonly latents: Whole; readonly answers: Whole };
  /** Recomputes the blocks of the decoder on the way back. */
  readonly recompute?: boolean;
}

/** What came of a batch. Scalars are [] on the device. */
export interface StepResult {
  readonly loss: Tensor;
  readonly vision: Tensor;
  readonly language: Tensor;
  /** In the order of the parameters; null where none flows. */
  readonly gradients: readonly (Tensor | null)[];
}

/**
 * Losses and gradients of one batch.
 *
 * @param parameters  leaves: of the head in stage 1, of the decoder or its adapters in stage 2
 */
export function rotStep(
  model: VisionLanguageModel,
  head: ProjectionHead,
  batch: readonly TrainingSample[],
  parameters: readonly Tensor[],
  options: StepOptions,
): StepResult {
  return scope(() => {
    const counts = batch.map(({ target }) => target.shape[0] as number);
    const steps = rollOut(
      model,
      head,
      batch.map(({ question }) => question),
      counts,
    );
    const pass: Pass = {
      model,
      head,
      options,
      layout: layOutBatch(batch, counts),
      answers: batch.map(({ answer }) => answer.length),
      counts,
      hidden: rolled(steps.hidden, steps.rows),
      latents: rolled(steps.latents, steps.rows),
      targets: batch.map(({ target }) => target),
    };
    return options.trainsDecoder ? decoderStep(pass, parameters) : headStep(pass, parameters);
  });
}

interface Pass {
  readonly model: VisionLanguageModel;
  readonly head: ProjectionHead;
  readonly options: StepOptions;
  readonly layout: BatchLayout;
  readonly answers: readonly number[];
  readonly counts: readonly number[];
  /** [N, D] of the roll-out. */
  readonly hidden: Tensor;
  /** [N, D] of the roll-out. */
  readonly latents: Tensor;
  readonly targets: readonly Tensor[];
}

/** Stage 1. */
function headStep(pass: Pass, parameters: readonly Tensor[]): StepResult {
  const predicted = pass.head(pass.hidden);
  const vision = visionLoss(pass, predicted);
  const language = languageLoss(pass, decode(pass, predicted, pass.layout.answerRows));
  const combined = combine(vision, language, pass.options.weights);
  return { ...combined, vision, language, gradients: grad(combined.loss, parameters) };
}

/** Stage 2. */
function decoderStep(pass: Pass, parameters: readonly Tensor[]): StepResult {
  const { layout, head, options } = pass;
  const latents = requireGrad(pass.latents.detach());
  const rows = Int32Array.from([...layout.sourceRows, ...layout.answerRows]);
  const hidden = decode(pass, latents, rows);
  const count = layout.sourceRows.length;
  const source = hidden.slice([0, count]);
  const language = languageLoss(pass, hidden.slice([count]));
  const predicted = head(source);
  const vision = visionLoss(pass, predicted);
  const combined: Combined = untaped(() => combine(vision, language, options.weights));

  const [wanted, ...fromLanguage] = grad(language, [latents, ...parameters], {
    cotangent: combined.ofLanguage,
    retain: true,
  });
  const [fromVision] = grad(vision, [predicted], { cotangent: combined.ofVision, retain: true });
  const cotangent = (wanted as Tensor).add(fromVision as Tensor);
  const throughLatents = grad(predicted, parameters, { cotangent });
  const gradients = parameters.map((_, i) => (fromLanguage[i] as Tensor).add(throughLatents[i] as Tensor));
  return { loss: combined.loss, vision, language, gradients };
}

/** Hidden states at some rows of [question, latents, answer]. */
function decode({ model, layout, options }: Pass, latents: Tensor, rows: Int32Array): Tensor {
  const { ids, sequences, length, valid, latentRows } = layout;
  const embeddings = model.embed(tensor(model.device, ids, { shape: [sequences, length], dtype: "i32" }));
  return model.forward(embeddings, {
    valid,
    images: { tokens: latents, deepstack: [], rows: latentRows },
    rows,
    recompute: options.recompute ?? false,
  });
}

function visionLoss({ options, counts, targets, model }: Pass, predicted: Tensor): Tensor {
  const target = targets.length === 1 ? (targets[0] as Tensor) : concat(targets);
  const weights = tensor(model.device, rowWeights(counts, options.weighting, options.whole?.latents));
  return weighted(latentLoss(options.loss, predicted, target, options), weights);
}

function languageLoss({ model, layout, answers, options }: Pass, hidden: Tensor): Tensor {
  const losses = linearCrossEntropy(hidden, model.head, layout.labels, { reduction: "none" });
  return weighted(losses, tensor(model.device, rowWeights(answers, options.weighting, options.whole?.answers)));
}
