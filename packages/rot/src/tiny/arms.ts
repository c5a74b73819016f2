/** What is trained on the base of the tiny model: Render-of-Thought in its two stages, and what it is compared with. */
import { buildModel, createLora, type Lora, type LoraConfig, type Pretrained, weightsOf } from "@rot/models";
import { grad, key, requireGrad, scope, type Seed, type Tensor, untaped } from "@rot/tensor";
import { createHead, type HeadConfig, type ProjectionHead, projectionHead } from "../methods/rot/head.ts";
import { rotStep, type TrainingSample } from "../methods/rot/step.ts";
import type { TrainingTask } from "../train/task.ts";
import { directSequence, type Material, type StageOptions, tinyOptimizer } from "./base.ts";
import { trainable } from "./model.ts";
import { type Problem, STEPS } from "./problems.ts";
import { textLosses } from "./text-losses.ts";
import { encode, marks } from "./vocabulary.ts";

/** Problems of a step. */
const BATCH = 48;

const drawBatch = ({ problems }: Material, purpose: string, seed: Seed, step: number): Problem[] =>
  Array.from({ length: BATCH }, (_, i) => problems.training(key(seed).for(purpose), step * BATCH + i));

/** Supervised training on answers alone, without a chain: what the decoder can do in one pass. Trains the whole decoder. */
export function directTask(base: Pretrained, material: Material, { seed, steps = 1200 }: StageOptions): TrainingTask {
  const { model, parameters } = trainable(base, "decoder");
  return {
    name: "direct",
    parameters,
    steps,
    optimizer: tinyOptimizer(1e-3, steps),
    gradients: (step) =>
      scope(() => {
        const batch = drawBatch(material, "tiny.direct", seed, step);
        const loss = textLosses(model.model, [batch.map(directSequence)], null).reshape();
        return { losses: { loss }, gradients: grad(loss, [...parameters.values()]), counts: { samples: BATCH } };
      }),
  };
}

/** The head φ of the tiny model. */
export const tinyHead: HeadConfig = { width: 64, hidden: 128, activation: "swiglu" };

/** A head with its parameters by name. */
export interface Head {
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Off the tape's account: its parameters are constants. */
  readonly project: ProjectionHead;
}

/** A head that has learnt nothing. */
export function createTinyHead({ model: { device } }: Pretrained, seed: Seed): Head {
  const parameters = createHead(tinyHead, device, key(seed).for("tiny.head"));
  return { parameters, project: projectionHead(weightsOf(parameters, device), tinyHead) };
}

/** `<q>` question `<img_begin>` */
export const thoughtPrompt = ({ question }: Problem): Int32Array =>
  Int32Array.from([marks.question, ...encode(question), marks.begin]);

/** `<img_end><ans>` answer `<eos>` */
const thoughtAnswer = ({ values }: Problem): Int32Array =>
  Int32Array.from([marks.done, marks.answer, ...encode(String(values.at(-1))), marks.end]);

/** Problems with what the tower sees in their chains. */
function samples(base: Pretrained, { strips }: Material, problems: readonly Problem[]): TrainingSample[] {
  const seen = untaped(() =>
    strips.see(
      base.model,
      problems.map(({ values }) => values),
    ),
  );
  return problems.map((problem, i) => ({
    question: thoughtPrompt(problem),
    answer: thoughtAnswer(problem),
    target: seen.rows(i * STEPS, (i + 1) * STEPS),
  }));
}

/** Stage 1: the head learns to predict what the tower would see, and to lead to the answer. The decoder is frozen. */
export function firstStage(
  base: Pretrained,
  head: Head,
  material: Material,
  { seed, steps = 500 }: StageOptions,
): TrainingTask {
  const parameters = new Map(
    [...head.parameters].map(([name, tensor]) => [name, requireGrad(tensor.alias())] as const),
  );
  const learning = projectionHead(weightsOf(parameters, base.model.device), tinyHead);
  return {
    name: "stage1",
    parameters,
    steps,
    optimizer: tinyOptimizer(5e-3, steps),
    gradients: (step) =>
      scope(() => {
        const batch = samples(base, material, drawBatch(material, "tiny.stage1", seed, step));
        const { gradients, ...losses } = rotStep(base.model, learning, batch, [...parameters.values()], {
          trainsDecoder: false,
          loss: "mse_only",
          weights: { vision: 10, language: 1 },
          weighting: "token",
        });
        return { losses, gradients, counts: { samples: BATCH, latents: BATCH * STEPS } };
      }),
  };
}

/** The adapters of stage 2. */
const tinyLora: LoraConfig = { r: 16, alpha: 32, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj"] };

/** What stage 2 may be told besides. */
export interface SecondStageOptions extends StageOptions {
  /** `stage2` by default. */
  readonly name?: string;
  /** 1e-4 by default, for adapters on what stage 1 has left. */
  readonly lr?: number;
}

/** A decoder with adapters, and the task that trains them. */
export interface SecondStage {
  readonly task: TrainingTask;
  readonly model: Pretrained;
  readonly lora: Lora;
}

/** Stage 2: adapters on the decoder learn to answer after their own latents. The head is frozen. */
export function secondStage(
  base: Pretrained,
  head: Head,
  material: Material,
  { seed, steps = 150, name = "stage2", lr = 1e-4 }: SecondStageOptions,
): SecondStage {
  const { device } = base.model;
  const lora = createLora(tinyLora, base.architecture.linears, device, { seed: key(seed).for(`tiny.${name}`) });
  for (const parameter of lora.parameters.values()) requireGrad(parameter);
  const model = buildModel(base, base.weights, device, lora);
  const { parameters } = lora;
  const task: TrainingTask = {
    name,
    parameters,
    steps,
    optimizer: tinyOptimizer(lr, steps),
    gradients: (step) =>
      scope(() => {
        const batch = samples(base, material, drawBatch(material, `tiny.${name}`, seed, step));
        const { gradients, ...losses } = rotStep(model.model, head.project, batch, [...parameters.values()], {
          trainsDecoder: true,
          loss: "mse_only",
          weights: { vision: 0, language: 1 },
          weighting: "token",
        });
        return { losses, gradients, counts: { samples: BATCH, latents: BATCH * STEPS } };
      }),
  };
  return { task, model, lora };
}
