/** Which setting of its knobs a call takes: the one that the tuner has stored, if any; a call unknown to it is shown to it. */
import type { Device } from "./gpu/device.ts";
import type { KnobValues } from "./gpu/tunings.ts";
import type { Tensor } from "./tensor.ts";

/** A call that has several settings to choose from. */
export interface TunableCall<S extends KnobValues> {
  /** Of the kernel or the op. */
  readonly name: string;
  /** Hash of the WGSL at all settings. */
  readonly source: string;
  /** Which calls share a choice. */
  readonly problem: string;
  /** The settings that the device can run and that are worth a try here, the one used without tuning first. */
  settings(): readonly S[];
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Which of them are changed in place. */
  readonly updates: readonly string[];
  /** The format that values are rounded to on the way, where it is coarser than that of the results. */
  readonly precision?: "f16" | undefined;
  /** Records the call with other tensors like these, and gives its outputs. */
  run(tensors: Readonly<Record<string, Tensor>>, setting: S): readonly Tensor[];
}

/** Which powers of four a whole number lies between: 0, 1 to 3, 4 to 15 and so on. */
export const powerOfFour = (n: number): number => (33 - Math.clz32(n)) >> 1;

/** What each choice of a tuner means to its kernel; null where that no longer exists. */
const resolved = new WeakMap<KnobValues, KnobValues | null>();

/**
 * The setting that the tuner has stored for a call; null when it has none, or one that is no more.
 *
 * @param all  every setting that the device can run, whatever the call
 */
export function tunedSetting<S extends KnobValues>(
  device: Device,
  call: TunableCall<S>,
  all: () => readonly S[],
): S | null {
  const { tunings } = device;
  const { name, source, problem } = call;
  const found = tunings.find(name, source, problem);
  if (found) {
    let setting = resolved.get(found);
    if (setting === undefined) {
      const size = Object.keys(found).length;
      setting = all().find((one) => {
        const entries = Object.entries(one);
        return entries.length === size && entries.every(([knob, value]) => found[knob] === value);
      });
      resolved.set(found, (setting ??= null));
    }
    return setting as S | null;
  }
  tunings.collect?.({
    kernel: name,
    source,
    problem,
    settings: call.settings(),
    tensors: call.tensors,
    updates: call.updates,
    precision: call.precision,
    run: (tensors, setting) => call.run(tensors as Readonly<Record<string, Tensor>>, setting as S),
  });
  return null;
}
