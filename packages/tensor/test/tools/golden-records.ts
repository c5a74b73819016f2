/** The golden records of optimizers, clipping and schedules, replayed step by step. */
import type { Device } from "../../src/gpu/device.ts";
import { AdamW } from "../../src/optim/adamw.ts";
import { clipGradNorm } from "../../src/optim/clip-grad-norm.ts";
import { constant, linearWithWarmup, warmupLr } from "../../src/optim/schedule.ts";
import type { Tensor } from "../../src/tensor.ts";
import { difference, expect } from "../../src/testing.ts";
import { type GoldenCase, load, numbers, tolerances } from "./golden-ops.ts";

const { elementwise, adamw } = tolerances;

/** Tensors whose names begin with a letter and a number: `p0.init`, `g3`. */
const counted = (tensors: object, pattern: RegExp): number =>
  Object.keys(tensors).filter((name) => pattern.test(name)).length;

/** What a record of AdamW says of itself. */
interface AdamwAttributes {
  readonly lr: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  readonly steps: number;
  readonly warmup_steps?: number | null;
  readonly total_steps: number;
  readonly max_grad_norm?: number | null;
  readonly lr_per_step: readonly number[];
  readonly grad_norm_before_clip: readonly number[];
}

/** Replays a record and compares it. */
type Replay = (one: GoldenCase, device: Device) => Promise<void>;

/** What is no function of tensors but the record of an optimizer. */
export const records: Readonly<Record<string, Replay>> = {
  async adamw({ file, attrs, tensors = {}, tolerance = adamw }, device) {
    const { lr, betas, eps, weight_decay, steps, warmup_steps, total_steps, max_grad_norm, ...listed } =
      attrs as unknown as AdamwAttributes;
    const read = (name: string) => load(device, file, tensors[name] as string);
    const want = (name: string) => numbers(file, tensors[name] as string);
    const indices = Array.from({ length: counted(tensors, /^p\d+\.init$/) }, (_, i) => i);
    const parameters = await Promise.all(indices.map((i) => read(`p${i}.init`)));
    const schedule = warmup_steps == null ? constant : linearWithWarmup({ warmup: warmup_steps, total: total_steps });
    const optimizer = new AdamW(parameters, { lr, betas, eps, weightDecay: weight_decay });
    for (let step = 0; step < steps; step++) {
      optimizer.lr = lr * schedule(step);
      const rate = listed.lr_per_step[step] as number;
      expect(difference([optimizer.lr], [rate], [1], { relative: 1e-12 }), "lr").toBeNull();
      const gradients = await Promise.all(indices.map((i) => read(`g${i}.step${step}`)));
      if (max_grad_norm) {
        const norm = clipGradNorm(gradients, max_grad_norm);
        await expect(norm).toBeClose([listed.grad_norm_before_clip[step] as number], elementwise);
      }
      optimizer.step(gradients);
      for (const i of indices) {
        const name = `p${i}.step${step}`;
        await expect(parameters[i] as Tensor, name).toBeClose(await want(name), tolerance);
      }
    }
    const { state } = optimizer.stateDict();
    for (const i of indices) {
      const { exp_avg, exp_avg_sq } = state[i] as unknown as Record<"exp_avg" | "exp_avg_sq", Tensor>;
      await expect(exp_avg, `m${i}`).toBeClose(await want(`m${i}.final`), elementwise);
      await expect(exp_avg_sq, `v${i}`).toBeClose(await want(`v${i}.final`), elementwise);
    }
    optimizer.dispose();
  },

  async clip_grad_norm({ file, attrs, tensors = {}, tolerance = elementwise }, device) {
    const indices = Array.from({ length: counted(tensors, /^g\d+$/) }, (_, i) => i);
    const gradients = await Promise.all(indices.map((i) => load(device, file, tensors[`g${i}`] as string)));
    const norm = clipGradNorm(gradients, attrs["max_norm"] as number);
    const { values } = await numbers(file, tensors["total_norm"] as string);
    await expect(norm).toBeClose(values, tolerance);
    for (const i of indices)
      await expect(gradients[i] as Tensor, `g${i}`).toBeClose(
        await numbers(file, tensors[`clipped${i}`] as string),
        tolerance,
      );
  },

  async lr_schedule({ file, attrs, tensors = {} }) {
    const { lr, warmup, total } = attrs as { lr: number; warmup: number; total: number };
    const schedules = {
      linear_with_warmup: linearWithWarmup({ warmup, total }),
      warmup_lr_log: warmupLr({ warmup }),
      warmup_lr_linear: warmupLr({ warmup, shape: "linear" }),
    };
    expect(Object.keys(tensors).toSorted()).toEqual(Object.keys(schedules).toSorted());
    for (const [name, schedule] of Object.entries(schedules)) {
      const want = await numbers(file, tensors[name] as string);
      const got = want.values.map((_, step) => lr * schedule(step));
      expect(difference(got, want.values, want.shape, { relative: 2 ** -23 }), name).toBeNull();
      // Where the attributes repeat them, they are doubles.
      const exact = attrs[name] as number[] | undefined;
      if (exact) expect(difference(got, exact, [exact.length], { relative: 1e-12 }), name).toBeNull();
    }
  },
};
