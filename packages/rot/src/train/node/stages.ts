/** Each stage made ready to run: which model, what learns, what a checkpoint of it holds. */
import { type Lora, weightsOf } from "@rot/models";
import { loadImageProcessor } from "@rot/models/node";
import {
  constantWithWarmup,
  cosineWithWarmup,
  type Device,
  full,
  keep,
  key,
  linearWithWarmup,
  requireGrad,
  type Tensor,
} from "@rot/tensor";
import { type BundleConfig, BundleError, type MarkerRecord, stripRecord } from "../../bundle/config.ts";
import { bundleContents, bundleFiles, readBundleConfig } from "../../bundle/node/contents.ts";
import { openStudent, type Student } from "../../bundle/node/open-student.ts";
import { readTensors } from "../../bundle/node/read-tensors.ts";
import { type TrainedMarkers, trainMarkers } from "../../bundle/trained-markers.ts";
import type { RunConfig } from "../../config/schema.ts";
import type { Sample } from "../../data/sample.ts";
import type { Subject } from "../../evaluate/options.ts";
import type { TargetOptions } from "../../data/target-cache/targets.ts";
import { createHead, type HeadConfig, headParameters, projectionHead } from "../../methods/rot/head.ts";
import type { StepOptions } from "../../methods/rot/step.ts";
import { latentTask, type StageOptions, textTask } from "../../methods/rot/task.ts";
import { accuracy } from "../accuracy.ts";
import type { Contents } from "../checkpoint-folder.ts";
import type { OptimizerSettings, TrainingTask } from "../task.ts";
import { adapters, learnsOf } from "./learns.ts";
import { openRenderer, type Prepared, prepareLatent, prepareText, type RunData, type Teacher } from "./run-data.ts";

/** A stage that is ready. */
export interface ReadyStage {
  readonly task: TrainingTask;
  readonly prepared: Prepared;
  /** All that the model is made of, what learns and what does not, by name. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** The files of a checkpoint that make it a model again. */
  readonly contents: () => Contents;
  dispose(): void;
}

/** What all stages are made from. */
export interface StageSource {
  readonly config: RunConfig;
  readonly data: RunData;
  readonly device: Device;
  /** A checkpoint of the stage, when it goes on: the markers that do not learn are its own, wherever they were drawn. */
  readonly begun?: string;
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

/** The stages by their names. */
export type StageName = "stage1" | "stage2" | "sft";

/**
 * Makes the stage of a name.
 *
 * @param checkpoint  of stage 1, that stage 2 begins with
 * @throws {BundleError} when it is none
 */
export const openStage = (name: StageName, source: StageSource, checkpoint: string | null): Promise<ReadyStage> =>
  owning((own) =>
    ({
      stage1: () => stage1(source, own),
      stage2: () => stage2(source, checkpoint as string, own),
      sft: () => sft(source, own),
    })[name](),
  );

/** Stage 1: a fresh head on a frozen model, whose markers may learn too; of v1 on a model that learns as a whole. */
async function stage1(source: StageSource, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device, begun } = source;
  const { mode, train } = config.markers;
  const isJoint = config.model_type === "v1";
  const student = own(
    await openStudent(config.model, device, {
      markers: { mode, train, seed: key(config.seed).for("markers") },
      ...(isJoint && { dtype: "f32" as const }),
      ...(begun !== undefined && { markerRows: (shapes) => readTensors(begun, bundleFiles.markers, shapes, device) }),
    }),
  );
  const head: HeadConfig = { width: student.pretrained.model.width, ...config.head };
  const parameters = createHead(head, device, key(config.seed).for("head"));
  for (const parameter of parameters.values()) own(parameter);
  const learns = new Map([...parameters].map(([name, parameter]) => [`head.${name}`, requireGrad(parameter)]));
  const decoder = isJoint ? learnsOf(student, "full") : null;
  for (const [name, parameter] of decoder?.learns ?? []) learns.set(name, parameter);
  const markers = train ? trainMarkers(student.pretrained, student.markers as MarkerRecord) : null;
  for (const [name, row] of markers?.parameters ?? []) learns.set(`markers.${name}`, own(row));
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
    step: {
      trainsDecoder: isJoint || train,
      tokenRows: markers?.rows ?? null,
      loss: loss.latent,
      components: loss.components,
      weights,
      weighting: loss.weighting,
    },
    mode: isJoint ? "full" : "stage1",
    lora: null,
    trained: decoder?.trained ?? [],
    markers,
  });
}

/** Stage 2: the decoder, on the head of stage 1. */
async function stage2(source: StageSource, checkpoint: string, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device } = source;
  const bundle = await readBundleConfig(checkpoint);
  if (bundle.mode !== "stage1" || !bundle.head || !bundle.markers) {
    throw new BundleError(`${checkpoint} is a checkpoint of ${bundle.mode}; stage 2 begins with one of stage 1`);
  }
  const { head, markers } = bundle;
  const { mode } = config.stage2;
  const student = own(
    await openStudent(config.model, device, {
      markers,
      markerRows: (shapes) => readTensors(checkpoint, bundleFiles.markers, shapes, device),
      expected: bundle.base,
      ...(mode === "lora" ? { lora: adapters(config, device) } : { dtype: "f32" as const }),
    }),
  );
  const headTensors = await readTensors(checkpoint, bundleFiles.head, headParameters(head), device);
  for (const parameter of headTensors.values()) own(parameter);
  const { learns, trained } = learnsOf(student, mode);
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
    markers: null,
  });
}

/** Supervised text. */
async function sft(source: StageSource, own: Own): Promise<Omit<ReadyStage, "dispose">> {
  const { config, device, data, signal } = source;
  const { mode } = config.stage2;
  const student = own(
    await openStudent(config.model, device, {
      markers: "none",
      ...(mode === "lora" ? { lora: adapters(config, device) } : { dtype: "f32" as const }),
    }),
  );
  const { learns, trained } = learnsOf(student, mode);
  const prepared = await prepareText(data.train, student, config, signal);
  const validation = await prepareText(data.validation.slice(0, config.validation.samples), student, config, signal);
  const { lora } = student.pretrained;
  const task = textTask({
    ...common(source, "sft", prepared, validation),
    accuracy: accuracyOf(source, { ...subjectOf(student), latents: null, chain: config.training.chain }),
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
    strips: stripRecord(config),
  };
  return {
    task,
    prepared,
    weights: student.pretrained.weights,
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
  readonly markers: TrainedMarkers | null;
}

async function latentStage(source: StageSource, stage: LatentStage): Promise<Omit<ReadyStage, "dispose">> {
  const { config, data, device, cache, signal } = source;
  const { student, headTensors, learns, lora, trained } = stage;
  const { model } = student.pretrained;
  const teacher: Teacher = {
    model,
    processor: await loadImageProcessor(config.model),
    renderer: await openRenderer(config),
    encoding: config.rendering.encoding,
    ...(cache && { cache: await cache(student) }),
  };
  const record = student.markers as MarkerRecord;
  const prepare = (samples: readonly Sample[]): Promise<Prepared> =>
    prepareLatent(samples, student, record, teacher, config, signal);
  const prepared = await prepare(data.train);
  const validation = await prepare(data.validation.slice(0, config.validation.samples));
  const head = projectionHead(weightsOf(new Map(headTensors), device), stage.head);
  const policy = { budget: median(prepared.counts) };
  const task = latentTask({
    ...common(source, stage.name, prepared, validation, stage.markers),
    accuracy: accuracyOf(source, {
      ...subjectOf(student),
      latents: { source: head, markers: record, policy },
      chain: true,
    }),
    ...(stage.markers && { place: stage.markers.place }),
    model,
    head,
    parameters: learns,
    lora,
    step: { ...stage.step, recompute: config.training.recompute },
  });
  const bundle: Omit<BundleConfig, "base" | "markers"> = {
    mode: stage.mode,
    head: stage.head,
    latents: policy,
    answerStyle: config.stage2.answer_style,
    chain: true,
    strips: stripRecord(config),
  };
  return {
    task,
    prepared,
    weights: new Map([...student.pretrained.weights, ...headTensors]),
    contents: () =>
      bundleContents(student, {
        config: bundle,
        head: headTensors,
        lora,
        trained,
        ...(stage.markers && { markerRows: stage.markers.parameters }),
      }),
  };
}

function common(
  { config }: StageSource,
  name: string,
  data: Prepared,
  validation: Prepared,
  markers: TrainedMarkers | null = null,
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
    ...(markers && {
      groups: [
        {
          names: new Set([...markers.parameters.keys()].map((row) => `markers.${row}`)),
          lr: config.markers.lr ?? given.lr,
          weightDecay: 0,
        },
      ],
    }),
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

/** A student as evaluation takes it, but for how it thinks. */
const subjectOf = ({ pretrained, tokenizer, template }: Student): Omit<Subject, "latents" | "chain"> => ({
  model: pretrained.model,
  tokenizer,
  template,
  stop: [tokenizer.eosId],
});

/** What validation says besides the losses; null where it is not asked for. */
function accuracyOf({ config, data }: StageSource, subject: Subject): NonNullable<StageOptions["accuracy"]> | null {
  const { accuracy_samples: most, max_new_tokens: maxNewTokens } = config.validation;
  const samples = data.validation.slice(0, most);
  if (samples.length === 0) return null;
  const options = { batchSize: config.training.batch_size, maxNewTokens };
  return (signal) => accuracy(subject, samples, options, signal);
}

const median = (counts: readonly number[]): number => counts.toSorted((a, b) => a - b)[counts.length >> 1] ?? 0;
