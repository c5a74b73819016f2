/**
 * The optimizer of a checkpoint as the published trainer goes on from it: torch's `optimizer.bin` after stage 1, one partition
 * of DeepSpeed's ZeRO stage 2 after stage 2.
 */
import { loadConfig } from "../../config/load.ts";
import type { RunConfig } from "../../config/schema.ts";
import { runConfigOf, runFiles } from "../../train/node/run-manifest.ts";
import type { NumberStream } from "../import/number-stream.ts";
import { countOf } from "../torch-pickle/strided.ts";
import { Tuple } from "../torch-pickle/values.ts";
import type { WritableValue } from "../torch-pickle/pickle.ts";
import type { TensorToWrite } from "../torch-pickle/writer.ts";
import type { Counter } from "./counting.ts";
import type { TrainingSource } from "./source.ts";

/** A parameter that learns. */
export interface Learnt {
  /** What the published trainer calls it. */
  readonly published: string;
  readonly shape: readonly number[];
  readonly value: NumberStream;
  readonly exp_avg: NumberStream;
  readonly exp_avg_sq: NumberStream;
}

/**
 * The parameters that learn, in the order of the published module tree, and those of ours that it does not know.
 *
 * @param order  published names, and what ours are called
 */
export function learntOf(
  { parameters, moments }: TrainingSource,
  order: ReadonlyMap<string, { readonly name: string; readonly shape: readonly number[] }>,
): { readonly learnt: Learnt[]; readonly unknown: string[] } {
  const learnt: Learnt[] = [];
  const unknown = new Set(parameters.keys());
  for (const [published, { name, shape }] of order) {
    const value = parameters.get(name);
    if (!value) continue;
    unknown.delete(name);
    // The tables are cut to the tokenizer; the first rows are the first bytes.
    const cut = (tensor: NumberStream & { stream: (begin?: number, end?: number) => AsyncGenerator<Uint8Array> }) => {
      const bytes = 4 * countOf(shape);
      return { dtype: tensor.dtype, shape, bytes, stream: () => tensor.stream(0, bytes) };
    };
    const [first, second] = [moments.get(`exp_avg.${name}`), moments.get(`exp_avg_sq.${name}`)];
    if (!first || !second) continue;
    learnt.push({ published, shape, value: cut(value), exp_avg: cut(first), exp_avg_sq: cut(second) });
  }
  return { learnt, unknown: [...unknown] };
}

/** The settings of the run that a checkpoint is in, or the defaults. */
export async function settingsOf(checkpoint: string, note: (text: string) => void): Promise<RunConfig["optimizer"]> {
  const config = await runConfigOf(checkpoint);
  if (config) return config.optimizer;
  note(`${checkpoint} is in no run with a ${runFiles.config}: the optimizer is written with the default settings`);
  return loadConfig(null).config.optimizer;
}

/** A group of parameters, as `torch.optim.AdamW` writes it. */
function paramGroup(
  { lr, betas, eps, weight_decay: weightDecay }: RunConfig["optimizer"],
  count: number,
): ReadonlyMap<string, WritableValue> {
  return new Map<string, WritableValue>([
    ["lr", lr],
    ["initial_lr", lr],
    ["betas", new Tuple([...betas])],
    ["eps", eps],
    ["weight_decay", weightDecay],
    ["bias_correction", true],
    ["amsgrad", false],
    ["maximize", false],
    ["foreach", null],
    ["capturable", false],
    ["differentiable", false],
    ["fused", null],
    ["decoupled_weight_decay", true],
    ["params", Array.from({ length: count }, (_, i) => i)],
  ]);
}

/** A schedule after some steps. The rate of the first step that follows is the peak; the schedule corrects it then. */
const schedulerState = ({ lr }: RunConfig["optimizer"], step: number): WritableValue =>
  new Map<string, WritableValue>([
    ["base_lrs", [lr]],
    ["last_epoch", step],
    ["_step_count", step + 1],
    ["_last_lr", [lr]],
    ["lr_lambdas", [null]],
  ]);

/** A number as a tensor without axes. */
const scalar = (value: number): TensorToWrite => ({
  dtype: "F32",
  shape: [],
  data: new Uint8Array(Float32Array.of(value).buffer),
});

/** `optimizer.bin` of a plain stage 1. */
export function torchOptimizer(
  learnt: readonly Learnt[],
  step: number,
  settings: RunConfig["optimizer"],
  counter: Counter,
): WritableValue {
  const state = new Map(
    learnt.map(({ exp_avg, exp_avg_sq }, i): [WritableValue, WritableValue] => [
      i,
      new Map([
        ["step", scalar(step)],
        ["exp_avg", counter.torch(exp_avg)],
        ["exp_avg_sq", counter.torch(exp_avg_sq)],
      ]),
    ]),
  );
  return new Map<string, WritableValue>([
    [
      "optimizer_state_dict",
      new Map<string, WritableValue>([
        ["state", state],
        ["param_groups", [paramGroup(settings, learnt.length)]],
      ]),
    ],
    ["scheduler_state_dict", schedulerState(settings, step)],
  ]);
}

/** DeepSpeed pads what it shares out among ranks to a multiple of so many numbers a rank. */
const ALIGNMENT = 2;

/** The version whose layout this is. */
const deepSpeedVersion = "0.19.8";

/** `bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt`: all parameters one after another, for one rank. */
export function partition(
  learnt: readonly Learnt[],
  step: number,
  settings: RunConfig["optimizer"],
  counter: Counter,
): WritableValue {
  const count = learnt.reduce((sum, { shape }) => sum + countOf(shape), 0);
  const padding = Math.ceil(count / ALIGNMENT) * ALIGNMENT - count;
  const flat = (of: "value" | "exp_avg" | "exp_avg_sq", padded: number): TensorToWrite =>
    counter.torch({
      dtype: "F32",
      shape: [count + padded],
      bytes: 4 * (count + padded),
      async *stream() {
        for (const parameter of learnt) yield* parameter[of].stream();
        if (padded > 0) yield new Uint8Array(4 * padded);
      },
    });
  const slot = new Map<string, WritableValue>([
    ["step", scalar(step)],
    ["exp_avg", flat("exp_avg", padding)],
    ["exp_avg_sq", flat("exp_avg_sq", padding)],
  ]);
  const base = new Map<string, WritableValue>([
    ["state", new Map([[0, slot]])],
    ["param_groups", [paramGroup(settings, 1)]],
  ]);
  const state = new Map<string, WritableValue>([
    ["dynamic_loss_scale", false],
    ["overflow", false],
    ["clip_grad", settings.max_grad_norm ?? 0],
    ["base_optimizer_state", base],
    ["single_partition_of_fp32_groups", [flat("value", 0)]],
    ["zero_stage", 2],
    ["group_paddings", [padding]],
    ["partition_count", [1]],
    ["ds_version", deepSpeedVersion],
  ]);
  return new Map<string, WritableValue>([
    ["optimizer_state_dict", state],
    ["ds_config", new Map()],
    ["ds_version", deepSpeedVersion],
  ]);
}

/** What DeepSpeed keeps beside the weights, so that it and we find the parameters in the partition. */
export function engineState(
  learnt: readonly Learnt[],
  step: number,
  settings: RunConfig["optimizer"],
): [string, WritableValue][] {
  return [
    ["buffer_names", []],
    ["optimizer", null],
    ["param_shapes", [new Map(learnt.map(({ published, shape }) => [published, new Tuple([...shape])]))]],
    ["frozen_param_shapes", null],
    ["shared_params", new Map()],
    ["frozen_param_fragments", null],
    ["lr_scheduler", schedulerState(settings, step)],
    ["data_sampler", null],
    ["random_ltd", null],
    ["sparse_tensor_module_names", []],
    ["skipped_steps", 0],
    ["global_steps", step],
    ["global_samples", 0],
    ["dp_world_size", 1],
    ["mp_world_size", 1],
    ["ds_config", new Map()],
    ["ds_version", deepSpeedVersion],
  ];
}
