/** Every form of attention's kernels, made when it is first called, and the settings they share. */
import {
  type CallableKernel,
  type Device,
  hashOf,
  isVectorUnit,
  type Kernel,
  type Knobs,
  type KnobValues,
  type Scalar,
  type Setting,
} from "@rot/tensor/kernel";
import type { Tensor } from "@rot/tensor";
import { flash } from "./flash.wgsl.ts";
import { packKeys, packRows, packValues, panelGather, panelScores, panelSoftmax } from "./panels.wgsl.ts";
import { gather, scatter, scores } from "./products.wgsl.ts";
import { bounds, normalise } from "./rows.wgsl.ts";
import { type Arrangement, type Layout, needs, prefers } from "./tile.wgsl.ts";

/**
 * How attention is made, forward:
 *
 * - `own`, `shared`: scores of some rows, their softmax, and the product with the values, by the tiles of `tile.wgsl.ts`
 * - `panels`: the same by panels, for CPU adapters
 * - `flash`: in one kernel, for GPUs
 *
 * Gradients go by the tiles: of `flash` by `own`, of `panels` by `shared`.
 */
export type AttentionSetting = Readonly<
  /** `workspace`: MiB of scores at one time. */
  { arrangement: "own" | "shared" | "panels"; workspace: 2 | 8 } | { arrangement: "flash" }
>;

const settings: readonly AttentionSetting[] = [
  { arrangement: "own", workspace: 8 },
  { arrangement: "shared", workspace: 8 },
  { arrangement: "shared", workspace: 2 },
  { arrangement: "panels", workspace: 8 },
  { arrangement: "panels", workspace: 2 },
  { arrangement: "flash" },
];

const tilesOf = ({ arrangement }: AttentionSetting): Arrangement => ({
  arrangement: arrangement === "own" || arrangement === "flash" ? "own" : "shared",
});

/** The settings that a device can run. CPU adapters can run `flash` too, and take many seconds to compile it. */
export const settingsOn = (device: Device): readonly AttentionSetting[] =>
  settings.filter((setting) => {
    if (setting.arrangement === "panels") return isVectorUnit(device);
    if (setting.arrangement === "flash") return device.kind === "hardware";
    return needs(tilesOf(setting)).every((name) => device.features.has(name));
  });

let forced: AttentionSetting | undefined;

/** The setting that a test, the tuner or a call under way asks for. */
export const forcedSetting = (): AttentionSetting | undefined => forced;

/** Runs `f` with one setting. */
export function withSetting<T>(setting: AttentionSetting, f: () => T): T {
  const was = forced;
  forced = setting;
  try {
    return f();
  } finally {
    forced = was;
  }
}

/** All of attention's kernels as tests and the tuner see them: one. */
export const attentionKernels: Kernel = {
  kernelName: "attention",
  settings: () => settings as readonly KnobValues[],
  runsOn: (device, setting) => settingsOn(device).includes(setting as unknown as AttentionSetting),
  with: (setting, f) => withSetting(setting as unknown as AttentionSetting, f),
};

/** The tiles that a call on this device will have. */
export const tilesOn = (device: Device): Arrangement => (forced ? tilesOf(forced) : prefers(device));

type Form<K extends Knobs> = CallableKernel<string, never, string, Readonly<Record<string, Scalar>>, K>;
type Tensors = Readonly<Record<string, Tensor | undefined>>;

/** Makes each form of a kernel once. Tensors that a form does not have may be undefined. */
function forms<A extends readonly unknown[], K extends Knobs>(
  build: (...args: A) => Form<K>,
  knobsOn: (device: Device) => Setting<K>,
) {
  const made = new Map<string, Form<K>>();
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
      const { device } = Object.values(given)[0] as Tensor;
      kernel(given, {}, uniforms, { knobs: knobsOn(device) });
    };
  };
}

const none = (): Setting<Record<never, never>> => ({});

// One setting for all the kernels of a call: they share tiles, so the tuner may not choose for each.
export const scoresKernel = forms(scores, tilesOn);
export const gatherKernel = forms(gather, tilesOn);
export const scatterKernel = forms(scatter, tilesOn);
export const normaliseKernel = forms(normalise, tilesOn);
export const boundsKernel = forms(bounds, none);
export const flashKernel = forms(flash, none);
export const panelKernels = {
  keys: forms(packKeys, none),
  values: forms(packValues, none),
  scores: forms(panelScores, none),
  gather: forms(panelGather, none),
};

const sources = new WeakMap<Device, string>();

/** Changes with the WGSL of any way forward. */
export function sourceOn(device: Device): string {
  let source = sources.get(device);
  if (source === undefined) {
    const layout: Layout = { rows: 16, visible: true, rules: 1 };
    const all = [scores(layout, "score"), normalise(layout), gather(layout), bounds(layout)];
    const panels = [
      packRows,
      packKeys(layout),
      packValues(layout),
      panelScores(layout),
      panelSoftmax,
      panelGather(layout),
    ];
    const kernels = [
      ...all,
      ...(isVectorUnit(device) ? panels : []),
      ...(device.kind === "hardware" ? [flash(layout, 1)] : []),
    ];
    sources.set(device, (source = hashOf(...kernels.map((kernel) => kernel.sourceOn(device)))));
  }
  return source;
}
