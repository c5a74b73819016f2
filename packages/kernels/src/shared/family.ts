import type { Kernel } from "@rot/tensor/kernel";

/** One kernel written for single elements and for four at a time. Tests and the tuner see the two as one. */
export interface Family<K extends Kernel> extends Kernel {
  /** @param wide  whether every tensor is whole vectors of four */
  (wide: boolean): K;
}

/** Builds both forms of a kernel. */
export function family<K extends Kernel>(build: (wide: boolean) => K): Family<K> {
  const [scalar, vector] = [build(false), build(true)];
  return Object.assign((wide: boolean) => (wide ? vector : scalar), {
    kernelName: vector.kernelName,
    settings: () => vector.settings(),
    runsOn: (device, setting) => vector.runsOn(device, setting),
    with: <T>(setting: Parameters<Kernel["with"]>[0], f: () => T): T =>
      scalar.with(setting, () => vector.with(setting, f)),
  } satisfies Kernel);
}
