/** Tuning a device: from calls that were set aside to choices that it follows and that are stored. */
import { DeviceLostError } from "@rot/tensor";
import { type Device, type KnobValues, saveTunings, type Tuned } from "@rot/tensor/kernel";
import { type Call, collectCalls, describeTensors, freeCall } from "./calls.ts";
import { type Measured, measureCall, type MeasureOptions } from "./measure.ts";

/** How calls are tuned. */
export interface TuneOptions extends MeasureOptions {
  /** Told before each call, with how many were measured and how many there are. */
  readonly onCall?: (call: Call, done: number, total: number) => void;
  /** Told of each measurement, and waited for. */
  readonly onMeasured?: (measured: Measured) => void | Promise<void>;
  /** Ends it after the call that is being measured. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Measures calls, frees them, and lets the device follow the choices from now on. `ROT_DEBUG=3` shows each.
 *
 * @throws {DeviceLostError} when the device is lost; a notice says at which call
 */
export async function tuneCalls(
  device: Device,
  calls: readonly Call[],
  { onCall, onMeasured, signal, ...options }: TuneOptions = {},
): Promise<readonly Measured[]> {
  const all: Measured[] = [];
  for (const [done, call] of calls.entries()) {
    try {
      if (signal?.aborted) continue;
      onCall?.(call, done, calls.length);
      const measured = await measureCall(device, call, options);
      all.push(measured);
      device.tunings.add(choicesOf([measured]));
      if (device.debug >= 3) for (const line of describe(measured)) device.notice(line);
      await onMeasured?.(measured);
    } catch (error) {
      if (error instanceof DeviceLostError) {
        device.notice(`tuner: the device was lost at ${call.kernel} (${describeTensors(call)})`);
      }
      throw error;
    } finally {
      freeCall(call);
    }
  }
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

/** Tuning of what a program meets, as {@link startTuning} gives it. */
export interface Tuning {
  /**
   * Measures, and stores each choice at once; what was measured, and in which file it is. Only the first call does anything.
   */
  finish(
    options?: Omit<TuneOptions, "onMeasured">,
  ): Promise<{ readonly measured: readonly Measured[]; readonly file: string | null } | null>;
  /** Ends it without a measurement. */
  stop(): void;
}

/**
 * From now on, on a device that tunes in full (`ROT_TUNE=full`), sets aside the calls that nothing is known about, until
 * `finish` tunes and stores them. A dispatch cannot wait for a measurement: until then calls run at the usual settings.
 *
 * @returns  null on a device that does not tune in full
 */
export function startTuning(device: Device): Tuning | null {
  if (device.tunings.mode !== "full") return null;
  const collector = collectCalls(device);
  let isOver = false;
  return {
    async finish(options = {}) {
      if (isOver) return null;
      isOver = true;
      const calls = collector.take();
      collector.stop();
      let file: string | null = null;
      const measured = await tuneCalls(device, calls, {
        ...options,
        async onMeasured(one) {
          if (one.choice) file = await saveTunings(device, [one.choice]);
        },
      });
      return { measured, file };
    },
    stop() {
      isOver = true;
      collector.stop();
    },
  };
}

/** Runs `f`, and then tunes what it met, as {@link startTuning} says. */
export async function withTuning<T>(device: Device, f: () => T | Promise<T>): Promise<T> {
  const tuning = startTuning(device);
  try {
    const result = await f();
    await tuning?.finish();
    return result;
  } finally {
    tuning?.stop();
  }
}
