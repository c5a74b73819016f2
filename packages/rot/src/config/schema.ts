/** The configuration of a training run: one strict schema, from which defaults, help and errors come. */
import { z } from "zod";
import { latentLosses } from "../latent/losses.ts";
import { headActivations } from "../methods/rot/head.ts";
import { encodings } from "../render/vision.ts";

const count = z.int().positive();
const share = z.number().min(0).max(1);

/** Every key has a default; descriptions name the units. */
export const schema = z.strictObject({
  model: z.string().default("tiny").describe("folder of a Qwen3-VL checkpoint, or tiny: the embedded model"),
  stage: z
    .enum(["1", "2", "sft", "all"])
    .default("all")
    .describe("1: the head; 2: the decoder; sft: text alone; all: 1, then 2"),
  model_type: z
    .enum(["v1", "v2"])
    .default("v2")
    .describe("v2: stages; v1: the whole decoder learns with the head, in stage 1, as the first published class does"),
  stage1_checkpoint: z.string().nullable().default(null).describe("run folder or checkpoint that stage 2 begins with"),
  output: z.string().nullable().default(null).describe("run folder; by default runs/DATE-NAME"),
  seed: z.int().nonnegative().default(0).describe("of everything random: order, initial values, dropout"),
  data: z
    .strictObject({
      dataset: z.string().default("tiny").describe("file of rows, synthetic, or tiny"),
      format: z.string().nullable().default(null).describe("form of the rows; found by itself where it is null"),
      map: z.string().nullable().default(null).describe("question=FIELD,cot=FIELD,answer=FIELD for rows of one's own"),
      strip_calculator: z.boolean().default(false).describe("remove <<16-3-4=9>> from chains"),
      on_bad_row: z.enum(["fail", "skip"]).default("fail").describe("what a row does that cannot be read"),
      max_samples: count.nullable().default(null).describe("rows that are read at most"),
      max_length: count
        .default(2048)
        .describe("tokens of question, latents and answer together; longer rows are left out, and named"),
      validation_share: share
        .default(0.02)
        .describe("part of the rows that validates, drawn by a hash of each question"),
      synthetic_samples: count.default(5000).describe("problems of the dataset called synthetic"),
    })
    .prefault({}),
  rendering: z
    .strictObject({
      encoding: z
        .enum(encodings)
        .default("exact")
        .describe("exact: one row of patches, no resize; reference: both resizes of the published code"),
      font: z.string().nullable().default(null).describe("TrueType or OpenType file; by default DejaVu Sans"),
      font_size: z.number().positive().default(20).describe("pixels"),
      height: count.default(32).describe("pixels of the strip"),
      padding: z.int().nonnegative().default(4).describe("pixels left and right"),
      thought_markers: z
        .boolean()
        .default(true)
        .describe("draw <|begin_of_thought|> and <|end_of_thought|> around the chain"),
    })
    .prefault({}),
  markers: z
    .strictObject({
      mode: z
        .enum(["keep", "reference"])
        .default("keep")
        .describe(
          "rows of <img_begin> and <img_end>. keep: spare rows of the token tables, or new ones; reference: the tables get as many rows as the tokenizer has, as published",
        ),
      train: z.boolean().default(false).describe("stage 1: their rows learn too, without weight decay"),
      lr: z.number().positive().nullable().default(null).describe("their peak learning rate; null: optimizer.lr"),
    })
    .prefault({}),
  head: z
    .strictObject({
      hidden: count
        .default(4096)
        .describe("width p of the projection head: 4096 in the paper, 2048 in the published configurations"),
      activation: z.enum(headActivations).default("swiglu").describe("between its linears"),
    })
    .prefault({}),
  loss: z
    .strictObject({
      latent: z.enum(latentLosses).default("mse_only").describe("how far a latent is from its target"),
      components: z
        .enum(["mean", "sum"])
        .default("mean")
        .describe("of squares: the mean over components as the code has it, or the sum as the paper"),
      vision_weight: z.number().nonnegative().default(10).describe("of the latent loss in stage 1"),
      language_weight: z.number().nonnegative().default(1).describe("of the cross-entropy"),
      stage2_vision_weight: z
        .number()
        .nonnegative()
        .default(0)
        .describe("of the latent loss in stage 2; above 0 it repairs a weak stage 1"),
      uncertainty: z.boolean().default(false).describe("train the two weights as logarithms of variances"),
      weighting: z
        .enum(["sample", "token"])
        .default("sample")
        .describe("what counts alike in a mean: samples, as published, or tokens"),
    })
    .prefault({}),
  stage2: z
    .strictObject({
      mode: z.enum(["lora", "full", "lm_head"]).default("lora").describe("what of the decoder learns"),
      freeze_head: z.boolean().default(true).describe("keep the projection head of stage 1 as it is"),
      answer_style: z
        .enum(["explicit", "reference"])
        .default("explicit")
        .describe("reference repeats the header of the assistant's turn, as published"),
    })
    .prefault({}),
  lora: z
    .strictObject({
      r: count.default(16).describe("rank"),
      alpha: z.number().positive().default(32).describe("scaled by alpha / r"),
      dropout: share.default(0.05).describe("probability with which an element of the input is dropped"),
      target_modules: z
        .array(z.string().min(1))
        .min(1)
        .default(["q_proj", "k_proj", "v_proj", "o_proj"])
        .describe("names of linears"),
    })
    .prefault({}),
  optimizer: z
    .strictObject({
      lr: z.number().positive().default(2e-5).describe("peak learning rate"),
      betas: z.tuple([share, share]).default([0.9, 0.999]).describe("how much of the moments is kept"),
      eps: z.number().positive().default(1e-8).describe("added to the root of the second moment"),
      weight_decay: z.number().nonnegative().default(0.01).describe("part of a parameter that is taken off, times lr"),
      warmup_steps: z.int().nonnegative().default(20).describe("optimizer steps from 0 to the peak"),
      schedule: z
        .enum(["constant", "linear", "cosine"])
        .default("linear")
        .describe("after the warm-up; linear and cosine end at 0"),
      max_grad_norm: z.number().positive().nullable().default(1).describe("largest norm of all gradients together"),
    })
    .prefault({}),
  training: z
    .strictObject({
      batch_size: count.default(8).describe("samples on the device at one time"),
      gradient_accumulation_steps: count.default(1).describe("batches that make one step"),
      num_epochs: z.number().positive().default(1).describe("times that every sample is seen"),
      max_steps: count.nullable().default(null).describe("optimizer steps, whatever the epochs"),
      recompute: z.boolean().default(false).describe("keep only each block's input for the way back: memory for time"),
      chain: z.boolean().default(true).describe("stage sft: write the chain of thought before the answer"),
    })
    .prefault({}),
  checkpoint: z
    .strictObject({
      every: count.default(100).describe("optimizer steps from one to the next"),
      keep_last: count.default(3).describe("the latest so many stay"),
      keep_every: count.nullable().default(null).describe("and every step that this divides"),
    })
    .prefault({}),
  validation: z
    .strictObject({
      every: count.default(100).describe("optimizer steps from one to the next"),
      samples: count.default(64).describe("of the validation rows at most, for the losses"),
      accuracy_samples: z
        .int()
        .nonnegative()
        .default(16)
        .describe("and for the accuracy: answered greedily, as evaluate does; 0: none"),
      max_new_tokens: count.default(256).describe("tokens of such an answer at most"),
      metric_for_best_model: z
        .enum(["loss", "accuracy"])
        .default("loss")
        .describe("what the best checkpoint is the best in; the loss decides between equal accuracies"),
      patience: count.nullable().default(null).describe("end after so many without a new best"),
    })
    .prefault({}),
});

/** A configuration with every key. */
export type RunConfig = z.output<typeof schema>;
