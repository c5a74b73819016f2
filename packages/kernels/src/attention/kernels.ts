/** Every form of attention's kernels, made when it is first called, and the one knob they share. */
import type { CallableKernel, Device, Kernel, Scalar, Setting } from "@rot/tensor/kernel";
import type { Tensor } from "@rot/tensor";
import { gather, scatter, scores } from "./products.wgsl.ts";
import { normalise } from "./rows.wgsl.ts";
import { type Arrangement, knobs, needs, prefers } from "./tile.wgsl.ts";

type Form = CallableKernel<string, never, string, Readonly<Record<string, Scalar>>, typeof knobs>;
type Tensors = Readonly<Record<string, Tensor | undefined>>;

let forced: Arrangement | undefined;

/** All of attention's kernels as tests and the tuner see them: one. */
export const attentionKernels: Kernel = {
  kernelName: "attention",
  settings: () => knobs.arrangement.map((arrangement) => ({ arrangement })),
  runsOn: (device, setting) => needs(setting as unknown as Arrangement).every((name) => device.features.has(name)),
  with<T>(setting: Setting, f: () => T): T {
    const was = forced;
    forced = setting as unknown as Arrangement;
    try {
      return f();
    } finally {
      forced = was;
    }
  },
};

/** The setting that a call on this device will have. */
export const settingOn = (device: Device): Arrangement => forced ?? prefers(device);

/** Makes each form of a kernel once. Tensors that a form does not have may be undefined. */
function forms<A extends readonly unknown[]>(build: (...args: A) => Form) {
  const made = new Map<string, Form>();
  return (...args: A) => {
    const key = JSON.stringify(args);
    let form = made.get(key);
    if (!form) made.set(key, (form = build(...args)));
    const kernel = form;
    return (tensors: Tensors, uniforms: Readonly<Record<string, number>>): void => {
      const given = Object.fromEntries(Object.entries(tensors).filter(([, tensor]) => tensor)) as Record<
        string,
        Tensor
      >;
      // One setting for all the kernels of a call: they share tiles, so the tuner may not choose for each.
      const { device } = Object.values(given)[0] as Tensor;
      kernel(given, {}, uniforms, { knobs: settingOn(device) });
    };
  };
}

export const scoresKernel = forms(scores);
export const gatherKernel = forms(gather);
export const scatterKernel = forms(scatter);
export const normaliseKernel = forms(normalise);
