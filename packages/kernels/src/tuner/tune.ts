/** Tuning a device: from calls that were set aside to choices that it follows and that are stored. */
import { type Device, type KnobValues, saveTunings, type Tuned } from "@rot/tensor/kernel";
import { type Call, collectCalls, freeCall } from "./calls.ts";
import { type Measured, measureCall, type MeasureOptions } from "./measure.ts";

/**
 * Measures calls, frees them, and lets the device follow the choices from now on. `ROT_DEBUG=3` shows each.
 *
 * @throws {DeviceLostError} when the device is lost
 */
export async function tuneCalls(
  device: Device,
  calls: readonly Call[],
  options: MeasureOptions = {},
): Promise<readonly Measured[]> {
  const all: Measured[] = [];
  for (const call of calls) {
    try {
      all.push(await measureCall(device, call, options));
    } finally {
      freeCall(call);
    }
  }
  device.tunings.add(choicesOf(all));
  if (device.debug >= 3) for (const measured of all) for (const line of describe(measured)) device.notice(line);
  return all;
}

/** The choices among measurements. */
export const choicesOf = (all: readonly Measured[]): readonly Tuned[] =>
  all.flatMap(({ choice }) => (choice ? [choice] : []));

/** Knobs as people read them. */
export const printSetting = (setting: KnobValues): string =>
  Object.entries(setting)
    .map(([knob, value]) => `${knob}=${value}`)
    .join(" ");

function describe({ kernel, call, candidates, choice }: Measured): string[] {
  const to = choice ? `${printSetting(choice.setting)}, ${choice.ratio} of the usual time` : "no setting gave a result";
  return [
    `tuner: ${kernel} (${call}): ${to}`,
    ...candidates.flatMap(({ setting, reason }) =>
      reason === undefined ? [] : [`tuner: ${kernel} ${printSetting(setting)} is out: ${reason}`],
    ),
  ];
}

/**
 * Runs `f`. On a device that tunes in full (`ROT_TUNE=full`), the calls of `f` that nothing was known about are then tuned
 * and stored, so that the next time they are fast. A dispatch cannot wait for a measurement: `f` itself runs at the usual
 * settings.
 */
export async function withTuning<T>(device: Device, f: () => T | Promise<T>): Promise<T> {
  if (device.tunings.mode !== "full") return await f();
  const collector = collectCalls(device);
  try {
    const result = await f();
    const calls = collector.take();
    collector.stop();
    const choices = choicesOf(await tuneCalls(device, calls));
    if (choices.length > 0) await saveTunings(device, choices);
    return result;
  } finally {
    collector.stop();
  }
}
