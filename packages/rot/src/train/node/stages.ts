/** Each stage made ready to run: which model, what learns, what a checkpoint of it holds. */
import { join } from "node:path";
import { createLora, type Lora, type LoraConfig, loadCheckpoint, weightsOf } from "@rot/models";
import { loadImageProcessor, openFiles, readJson } from "@rot/models/node";
import {
  constantWithWarmup,
  cosineWithWarmup,
  type Device,
  full,
  keep,
  key,
  linearWithWarmup,
  requireGrad,
  type Shape,
  type Tensor,
} from "@rot/tensor";
import { type BundleConfig, BundleError, type MarkerRecord, parseBundleConfig } from "../../bundle/config.ts";
import { bundleContents, bundleFiles } from "../../bundle/node/contents.ts";
import { openStudent, type Student, type StudentOptions } from "../../bundle/node/open-student.ts";
import type { RunConfig } from "../../config/schema.ts";
import type { Sample } from "../../data/sample.ts";
import type { TargetOptions } from "../../data/target-cache/targets.ts";
import { createHead, type HeadConfig, headParameters, projectionHead } from "../../methods/rot/head.ts";
import type { StepOptions } from "../../methods/rot/step.ts";
import { latentTask, type StageOptions, textTask } from "../../methods/rot/task.ts";
import type { Contents } from "../checkpoint-folder.ts";
import type { OptimizerSettings, TrainingTask } from "../task.ts";
import { openRenderer, type Prepared, prepareLatent, prepareText, type RunData, type Teacher } from "./run-data.ts";

/** A stage that is ready. */
export interface ReadyStage {
  readonly task: TrainingTask;
  readonly prepared: Prepared;
  /** The files of a checkpoint that make it a model again. */
  readonly contents: () => Contents;
  dispose(): void;
}

/** What all stages are made from. */
export interface StageSource {
  readonly config: RunConfig;
  readonly data: RunData;
  readonly device: Device;
  /** Where targets are kept. */
  readonly cache?: (student: Student) => Promise<NonNullable<TargetOptions["cache"]>>;
  /** Ends the preparation. */
  readonly signal?: AbortSignal;
}

type Own = <T extends { dispose(): void }>(resource: T) => T;

/** Makes a stage. What it owns is freed with it, or at once when it cannot be made. */
async function owning(make: (own: Own) => Promise<Omit<ReadyStage, "dispose">>): Promise<ReadyStage> {
  const owned: { dispose(): void }[] = [];
  const dispose = (): void => {
    for (const resource of owned.splice(0).toReversed()) resource.dispose();
  };
  try {
    const stage = await make((resource) => {
      owned.push(resource);
      return resource;
    });
    return { ...stage, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Stage 1: a fresh head on a frozen model. */
export const openStage1 = (source: StageSource): Promise<ReadyStage> => owning((own) => stage1(source, own));

async function stage1(source: StageSource, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device } = source;
  const student = own(
    await openStudent(config.model, device, { markers: { mode: "keep", seed: key(config.seed).for("markers") } }),
  );
  const head: HeadConfig = { width: student.pretrained.model.width, ...config.head };
  const parameters = createHead(head, device, key(config.seed).for("head"));
  for (const parameter of parameters.values()) own(parameter);
  const learns = new Map([...parameters].map(([name, parameter]) => [`head.${name}`, requireGrad(parameter)]));
  const { loss } = config;
  let weights: StepOptions["weights"] = { vision: loss.vision_weight, language: loss.language_weight };
  if (loss.uncertainty) {
    const scalar = (): Tensor => own(requireGrad(keep(full(device, [1], 0))));
    const [vision, language] = [scalar(), scalar()];
    weights = { logVarianceVision: vision, logVarianceLanguage: language };
    learns.set("log_variance.vision", vision).set("log_variance.language", language);
  }
  return latentStage(source, {
    name: "stage1",
    student,
    head,
    headTensors: parameters,
    learns,
    step: { trainsDecoder: false, loss: loss.latent, components: loss.components, weights, weighting: loss.weighting },
    mode: "stage1",
    lora: null,
    trained: [],
  });
}

/**
 * Stage 2: the decoder, on the head of stage 1.
 *
 * @param checkpoint  of stage 1
 * @throws {BundleError} when it is none
 */
export const openStage2 = (source: StageSource, checkpoint: string): Promise<ReadyStage> =>
  owning((own) => stage2(source, checkpoint, own));

async function stage2(source: StageSource, checkpoint: string, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device } = source;
  const file = join(checkpoint, bundleFiles.config);
  const bundle = parseBundleConfig(await readJson(file), file);
  if (bundle.mode !== "stage1" || !bundle.head || !bundle.markers) {
    throw new BundleError(`${checkpoint} is a checkpoint of ${bundle.mode}; stage 2 begins with one of stage 1`);
  }
  const { head, markers } = bundle;
  const { mode } = config.stage2;
  const student = own(
    await openStudent(config.model, device, {
      markers,
      markerRows: (shapes) => tensorsOf(checkpoint, bundleFiles.markers, shapes, device),
      expected: bundle.base,
      ...(mode === "lora" ? { lora: adapters(config, device) } : { dtype: "f32" as const }),
    }),
  );
  const headTensors = await tensorsOf(checkpoint, bundleFiles.head, headParameters(head), device);
  for (const parameter of headTensors.values()) own(parameter);
  const { learns, trained } = learnsOf(student, config);
  if (!config.stage2.freeze_head) {
    for (const [name, parameter] of headTensors) learns.set(`head.${name}`, requireGrad(parameter));
  }
  const { loss } = config;
  return latentStage(source, {
    name: "stage2",
    student,
    head,
    headTensors,
    learns,
    step: {
      trainsDecoder: true,
      loss: loss.latent,
      components: loss.components,
      weights: { vision: loss.stage2_vision_weight, language: loss.language_weight },
      weighting: loss.weighting,
    },
    mode: mode === "lm_head" ? "lm-head" : mode,
    lora: student.pretrained.lora,
    trained,
  });
}

/** Supervised text. */
export const openSft = (source: StageSource): Promise<ReadyStage> => owning((own) => sft(source, own));

async function sft(source: StageSource, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device, data, signal } = source;
  const { mode } = config.stage2;
  const student = own(
    await openStudent(config.model, device, {
      markers: "none",
      ...(mode === "lora" ? { lora: adapters(config, device) } : { dtype: "f32" as const }),
    }),
  );
  const { learns, trained } = learnsOf(student, config);
  const prepared = await prepareText(data.train, student, config, signal);
  const validation = await prepareText(data.validation.slice(0, config.validation.samples), student, config, signal);
  const { lora } = student.pretrained;
  const task = textTask({
    ...common(source, "sft", prepared, validation),
    model: student.pretrained.model,
    parameters: learns,
    lora,
    step: { weighting: config.loss.weighting, recompute: config.training.recompute },
  });
  const bundle: Omit<BundleConfig, "base" | "markers"> = {
    mode: "sft",
    head: null,
    latents: null,
    answerStyle: "explicit",
    chain: config.training.chain,
    strips: stripsOf(config),
  };
  return {
    task,
    prepared,
    contents: () => bundleContents(student, { config: bundle, lora, trained }),
  };
}

interface LatentStage {
  readonly name: string;
  readonly student: Student;
  readonly head: HeadConfig;
  readonly headTensors: ReadonlyMap<string, Tensor>;
  readonly learns: Map<string, Tensor>;
  readonly step: Omit<StepOptions, "recompute">;
  readonly mode: BundleConfig["mode"];
  readonly lora: Lora | null;
  readonly trained: readonly string[];
}

async function latentStage(source: StageSource, stage: LatentStage): Promise<Omit<ReadyStage, "dispose">> {
  const { config, data, device, cache, signal } = source;
  const { student, head, headTensors, learns, lora } = stage;
  const { model } = student.pretrained;
  const teacher: Teacher = {
    model,
    processor: await loadImageProcessor(config.model),
    renderer: await openRenderer(config),
    encoding: config.rendering.encoding,
    ...(cache && { cache: await cache(student) }),
  };
  const markers = student.markers as MarkerRecord;
  const prepare = (samples: readonly Sample[]): Promise<Prepared> =>
    prepareLatent(samples, student, markers, teacher, config, signal);
  const prepared = await prepare(data.train);
  const validation = await prepare(data.validation.slice(0, config.validation.samples));
  const task = latentTask({
    ...common(source, stage.name, prepared, validation),
    model,
    head: projectionHead(weightsOf(new Map(headTensors), device), head),
    parameters: learns,
    lora,
    step: { ...stage.step, recompute: config.training.recompute },
  });
  const bundle: Omit<BundleConfig, "base" | "markers"> = {
    mode: stage.mode,
    head,
    latents: { budget: median(prepared.counts) },
    answerStyle: config.stage2.answer_style,
    chain: true,
    strips: stripsOf(config),
  };
  return {
    task,
    prepared,
    contents: () => bundleContents(student, { config: bundle, head: headTensors, lora, trained: stage.trained }),
  };
}

function common(
  { config }: StageSource,
  name: string,
  data: Prepared,
  validation: Prepared,
): Omit<StageOptions, "model" | "parameters"> {
  const { training, optimizer: given, seed } = config;
  const perStep = training.batch_size * training.gradient_accumulation_steps;
  const steps = training.max_steps ?? Math.max(1, Math.ceil((data.samples.length / perStep) * training.num_epochs));
  const ending = { warmup: Math.min(given.warmup_steps, steps - 1), total: steps };
  const schedules = { constant: constantWithWarmup, linear: linearWithWarmup, cosine: cosineWithWarmup };
  const optimizer: OptimizerSettings = {
    lr: given.lr,
    schedule: schedules[given.schedule](ending),
    betas: given.betas,
    eps: given.eps,
    weightDecay: given.weight_decay,
    ...(given.max_grad_norm !== null && { maxGradNorm: given.max_grad_norm }),
  };
  return {
    name,
    data,
    validation,
    batchSize: training.batch_size,
    accumulation: training.gradient_accumulation_steps,
    steps,
    optimizer,
    seed,
  };
}

/** Fresh adapters, as a student asks for them. */
const adapters =
  ({ lora, seed }: RunConfig, device: Device): NonNullable<StudentOptions["lora"]> =>
  (linears) => {
    const config: LoraConfig = {
      r: lora.r,
      alpha: lora.alpha,
      dropout: lora.dropout,
      targetModules: lora.target_modules,
      // The vision tower stays as it is, whatever its linears are called.
      excludeModules: String.raw`model\.visual\..*`,
    };
    return createLora(config, linears, device, { seed: key(seed).for("lora") });
  };

/** What of the decoder learns, by name, and the keys of the base's weights among it. */
function learnsOf({ pretrained }: Student, { stage2 }: RunConfig): { learns: Map<string, Tensor>; trained: string[] } {
  if (pretrained.lora) {
    return {
      learns: new Map([...pretrained.lora.parameters].map(([name, parameter]) => [name, requireGrad(parameter)])),
      trained: [],
    };
  }
  const output = pretrained.config.text.tied ? "model.language_model.embed_tokens.weight" : "lm_head.weight";
  const trained = [...pretrained.weights.keys()].filter((name) =>
    stage2.mode === "lm_head" ? name === output : !name.startsWith("model.visual."),
  );
  const learns = new Map(trained.map((name) => [name, requireGrad(pretrained.weights.get(name) as Tensor)]));
  return { learns, trained };
}

const stripsOf = ({ rendering }: RunConfig): BundleConfig["strips"] => ({
  encoding: rendering.encoding,
  fontSize: rendering.font_size,
  height: rendering.height,
  padding: rendering.padding,
  thoughtMarkers: rendering.thought_markers,
  newlines: "space",
  engine: "shaped",
});

const median = (counts: readonly number[]): number => counts.toSorted((a, b) => a - b)[counts.length >> 1] ?? 0;

/** The tensors of one file of a checkpoint. */
async function tensorsOf(
  checkpoint: string,
  name: string,
  shapes: ReadonlyMap<string, Shape>,
  device: Device,
): Promise<Map<string, Tensor>> {
  await using opened = await openFiles(checkpoint, [name]);
  return await loadCheckpoint(opened, { parameters: new Map(shapes), linears: new Map() }, device, { dtype: "f32" });
}
