/**
 * The gradients of one batch of Render-of-Thought: what the published code gets by taping every sample through all of its
 * latent steps, from one batched roll-out off the tape and one parallel pass on it.
 *
 * - Stage 1: the decoder and the markers are frozen, so the hidden states of the roll-out are constants. φ runs once over all of them; the
 *   language loss reaches it through one pass of the decoder over [question, latents, answer].
 * - Stage 2, or markers that learn: the same pass, over the detached latents, also gives the hidden states with their gradients, for a causal
 *   decoder does not see the answer from there. Two sweeps go back over it: one from the language loss, which also says
 *   what each latent should have been, and one from there through φ and the hidden states it was made of.
 *
 * @see Wang et al. 2026, "Render-of-Thought", https://arxiv.org/abs/2601.14750; models/cot_compressor.py at 68fa3d1
 */
import { linearCrossEntropy } from "@rot/kernels";
import type { VisionLanguageModel } from "@rot/models";
import { concat, grad, requireGrad, scope, type Tensor, tensor, untaped } from "@rot/tensor";
import {
  type BatchLayout,
  layOutBatch,
  rowWeights,
  type SampleTokens,
  type Weighting,
  type Whole,
} from "../../latent/batch.ts";
import { latentLoss, type LatentLossName, type LatentLossOptions, weighted } from "../../latent/losses.ts";
import { rolled, rollOut } from "../../latent/rollout.ts";
import { placeRows, type TokenRows, withRowGradients } from "../../latent/token-rows.ts";
import { combine, type LossWeights } from "./combine.ts";
import type { ProjectionHead } from "./head.ts";

/** A sample to learn from. */
export interface TrainingSample extends SampleTokens {
  /** [T, D], what the vision tower sees in the rendered chain. */
  readonly target: Tensor;
}

/** What a step needs to know besides the batch. */
export interface StepOptions extends LatentLossOptions {
  /** Whether the decoder or {@link tokenRows} learn; otherwise the hidden states are constants. */
  readonly trainsDecoder: boolean;
  /** Rows of the token tables that learn. */
  readonly tokenRows?: TokenRows | null;
  readonly loss: LatentLossName;
  readonly weights: LossWeights;
  /** Whether every sample counts alike, as in the published code, or every token. */
  readonly weighting: Weighting;
  /** What the whole step holds, where this batch is a part of it. */
  readonly whole?: { readonly latents: Whole; readonly answers: Whole };
  /** Recomputes the blocks of the decoder on the way back. */
  readonly recompute?: boolean;
  /**
   * Called with true before the pass that is taped and with false after it: dropout belongs there, and not into the roll-out,
   * which does what generation will do.
   */
  readonly onTaping?: (taping: boolean) => void;
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
    options.onTaping?.(true);
    try {
      return options.trainsDecoder ? decoderStep(pass, parameters) : headStep(pass, parameters);
    } finally {
      options.onTaping?.(false);
    }
  });
}

/** The losses of one batch, without gradients. */
export const rotLosses = (
  model: VisionLanguageModel,
  head: ProjectionHead,
  batch: readonly TrainingSample[],
  options: StepOptions,
): Omit<StepResult, "gradients"> =>
  untaped(() => {
    const { loss, vision, language } = rotStep(model, head, batch, [], { ...options, trainsDecoder: false });
    return { loss, vision, language };
  });

/** Loss and gradients of supervised text alone: the answers, perhaps with a chain of thought before them, as text. */
export function textStep(
  model: VisionLanguageModel,
  batch: readonly SampleTokens[],
  parameters: readonly Tensor[],
  options: Pick<StepOptions, "weighting" | "whole" | "recompute" | "onTaping">,
): Pick<StepResult, "loss" | "gradients"> {
  return scope(() => {
    options.onTaping?.(true);
    try {
      const counts = batch.map(() => 0);
      const layout = layOutBatch(batch, counts);
      const answers = batch.map(({ answer }) => answer.length);
      const pass = { model, layout, answers, options };
      const loss = languageLoss(pass, decode(pass, null, layout.answerRows));
      return { loss, gradients: parameters.length > 0 ? grad(loss, parameters, { allowUnused: true }) : [] };
    } finally {
      options.onTaping?.(false);
    }
  });
}

/** What the pass of a decoder over a batch needs. */
interface TextPass {
  readonly model: VisionLanguageModel;
  readonly options: Pick<StepOptions, "weighting" | "whole" | "recompute" | "tokenRows">;
  readonly layout: BatchLayout;
  /** Tokens of each answer. */
  readonly answers: readonly number[];
}

interface Pass extends TextPass {
  readonly head: ProjectionHead;
  readonly options: StepOptions;
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
  const combined = combine(vision, language, pass.options.weights, shareOf(pass));
  const gradients = parameters.length > 0 ? grad(combined.loss, parameters) : [];
  return { loss: combined.loss, vision, language, gradients };
}

/** Stage 2. */
function decoderStep(pass: Pass, parameters: readonly Tensor[]): StepResult {
  const { layout, head, options } = pass;
  const latents = requireGrad(pass.latents.detach());
  const rows = Int32Array.from([...layout.sourceRows, ...layout.answerRows]);
  const hidden = decode(pass, latents, rows);
  const count = layout.sourceRows.length;
  const language = languageLoss(pass, hidden.slice([count]));
  const predicted = head(hidden.slice([0, count]));
  const vision = visionLoss(pass, predicted);
  const combined = combine(vision.detach(), language.detach(), options.weights, shareOf(pass));

  const [wanted, ...fromLanguage] = grad(language, [latents, ...parameters], {
    cotangent: combined.ofLanguage.detach(),
    retain: true,
    allowUnused: true,
  });
  const [fromVision] = grad(vision, [predicted], { cotangent: combined.ofVision.detach(), retain: true });
  const cotangent = add(wanted ?? null, fromVision as Tensor);
  const throughLatents = grad(predicted, parameters, { cotangent, allowUnused: true });
  // Only weights that learn are on the tape here.
  const ofWeights = combined.loss.requiresGrad ? grad(combined.loss, parameters, { allowUnused: true }) : [];
  const gradients = parameters.map((_, i) =>
    [fromLanguage[i], throughLatents[i], ofWeights[i]].reduce<Tensor | null>(
      (sum, part) => (part ? add(sum, part) : sum),
      null,
    ),
  );
  return { loss: combined.loss, vision, language, gradients };
}

const add = (a: Tensor | null, b: Tensor): Tensor => (a ? a.add(b) : b);

/** Hidden states at some rows of [question, latents, answer]. */
function decode({ model, layout, options }: TextPass, latents: Tensor | null, rows: Int32Array): Tensor {
  const { ids, sequences, length, valid, latentRows } = layout;
  const embeddings = model.embed(tensor(model.device, ids, { shape: [sequences, length], dtype: "i32" }));
  const given = [
    ...(latents && latentRows.length > 0 ? [{ rows: latentRows, values: latents }] : []),
    ...(options.tokenRows ? placeRows(options.tokenRows, layout) : []),
  ];
  return model.forward(embeddings, {
    valid,
    ...(given.length > 0 && {
      images: {
        tokens: together(given.map(({ values }) => values)),
        deepstack: [],
        rows: Int32Array.from(given.flatMap((part) => [...part.rows])),
      },
    }),
    rows,
    recompute: options.recompute ?? false,
  });
}

function visionLoss({ options, counts, targets, model }: Pass, predicted: Tensor): Tensor {
  const weights = tensor(model.device, rowWeights(counts, options.weighting, options.whole?.latents));
  return weighted(latentLoss(options.loss, predicted, together(targets), options), weights);
}

/** The part of the whole step that a batch is. */
const shareOf = ({ answers, options }: Pass): number =>
  rowWeights(answers, options.weighting, options.whole?.answers).reduce((sum, weight) => sum + weight, 0);

/** Rows one after the other. */
const together = (parts: readonly Tensor[]): Tensor => (parts.length === 1 ? (parts[0] as Tensor) : concat(parts));

function languageLoss({ model, layout, answers, options }: TextPass, hidden: Tensor): Tensor {
  const { labels } = layout;
  const frozen = linearCrossEntropy(hidden, model.head, labels, { reduction: "none" });
  const rows = options.tokenRows;
  const losses = rows ? withRowGradients(frozen, hidden, model.head, labels, rows) : frozen;
  return weighted(losses, tensor(model.device, rowWeights(answers, options.weighting, options.whole?.answers)));
}
