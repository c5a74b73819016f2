/** One call at every setting: which agree, and which of those is fastest. */
import { copy, DeviceLostError, type DType, isFloat, keep, scope, type Tensor, untaped } from "@rot/tensor";
import type { Device, KnobValues, Tuned } from "@rot/tensor/kernel";
import { type Call, describeTensors } from "./calls.ts";

/** What became of a setting. */
export interface Candidate {
  readonly setting: KnobValues;
  /** `slow` ones were left out after one run, `differs` and `failed` are no settings to choose from. */
  readonly verdict: "timed" | "slow" | "differs" | "failed";
  /** The least time of a round, by the clock of the host, for one run; null where it was not timed. */
  readonly milliseconds: number | null;
  /** What failed, or how it differs. */
  readonly reason?: string;
}

/** A call, measured. */
export interface Measured {
  readonly kernel: string;
  /** Its inputs' shapes and dtypes, for people. */
  readonly call: string;
  readonly problem: string;
  /** The first is the one used without tuning. */
  readonly candidates: readonly Candidate[];
  /** Null when no setting gave a result. */
  readonly choice: Tuned | null;
}

/** How carefully to measure. */
export interface MeasureOptions {
  /** Rounds, in each of which every candidate has its turn; 7 if not given, and fewer of calls that take long. */
  readonly rounds?: number;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
}

/** A round of one candidate takes about so long, that the clock and the wait for the device weigh little. */
const ROUND_MILLISECONDS = 4;
const MOST_REPETITIONS = 100;
/** Of a slow call there are fewer rounds than asked for, as many as the best candidate runs in such a time, but three. */
const MOST_MILLISECONDS = 300;
const FIRST_RUNS = 3;
/** A call that takes so long is a round by itself. */
const LONG_MILLISECONDS = 20;
/** A candidate that took so many times the best one's time, each at the better of some first runs, is not timed again. */
const HOPELESS = { short: 4, long: 2 } as const;
/** So many times after the very first run, which others may have disturbed. */
const HOPELESS_AT_ONCE = { short: 16, long: 4 } as const;
/** What a setting must gain to take the usual one's place: less is noise, and would make the choice one of luck. */
const WORTH = 0.92;

/**
 * Runs a call at each of its settings, compares the results, and times those that agree, in turns.
 *
 * The result that most settings share is taken to be right; of as many, that of the usual setting.
 *
 * @throws {DeviceLostError} when the device is lost
 */
export async function measureCall(device: Device, call: Call, options: MeasureOptions = {}): Promise<Measured> {
  const { rounds = 7, now = performance.now.bind(performance) } = options;
  const judged = await judge(device, call);
  const sound = judged.filter(({ reason }) => reason === undefined).map(({ setting }) => setting);
  const times = sound.length > 1 ? await time(device, call, sound, rounds, now) : new Map<KnobValues, Times>();

  const usual = call.settings[0] as KnobValues;
  const least = (setting: KnobValues): number => times.get(setting)?.least ?? Infinity;
  const fastest = sound.toSorted((a, b) => least(a) - least(b))[0];
  let [chosen, ratio] = [fastest, 1];
  if (fastest && fastest !== usual && sound.includes(usual)) {
    // Among many the luckiest wins, so it must win again, against the usual one alone.
    const again = await time(device, call, [usual, fastest], rounds, now);
    const gains = (["least", "median"] as const).map(
      (which) => (again.get(fastest) as Times)[which] / (again.get(usual) as Times)[which],
    );
    [chosen, ratio] = Math.max(...gains) < WORTH ? [fastest, round(gains[0] as number)] : [usual, 1];
  }

  return {
    kernel: call.kernel,
    call: describeTensors(call),
    problem: call.problem,
    candidates: judged.map(({ setting, verdict, reason }): Candidate => {
      if (reason !== undefined) return { setting, verdict, reason, milliseconds: null };
      const taken = times.get(setting);
      return { setting, verdict: taken?.hopeless ? "slow" : "timed", milliseconds: taken?.least ?? null };
    }),
    choice: chosen
      ? {
          kernel: call.kernel,
          source: call.source,
          problem: call.problem,
          setting: chosen,
          ratio,
        }
      : null,
  };
}

const round = (ratio: number): number => Number(ratio.toPrecision(3));

interface Judged {
  readonly setting: KnobValues;
  readonly verdict: "timed" | "differs" | "failed";
  readonly reason?: string;
}

interface Result {
  readonly dtype: DType;
  readonly values: ArrayLike<number>;
}

/** Runs each setting once and sorts their results by whom they agree with. */
async function judge(device: Device, call: Call): Promise<Judged[]> {
  const groups: { readonly result: readonly Result[]; readonly members: KnobValues[] }[] = [];
  const failures = new Map<KnobValues, string>();
  for (const setting of call.settings) {
    try {
      const result = await resultOf(call, setting);
      await device.sync();
      const group = groups.find((one) => difference(result, one.result, call.precision) === null);
      if (group) group.members.push(setting);
      else groups.push({ result, members: [setting] });
    } catch (error) {
      if (error instanceof DeviceLostError) throw error;
      failures.set(setting, error instanceof Error ? error.message : String(error));
    }
  }
  // The sort is stable, and the usual setting's group is the first if it is there at all.
  const [right] = groups.toSorted((a, b) => b.members.length - a.members.length);
  return call.settings.map((setting): Judged => {
    const failure = failures.get(setting);
    if (failure !== undefined) return { setting, verdict: "failed", reason: failure };
    const group = groups.find(({ members }) => members.includes(setting));
    if (!group || !right || group === right) return { setting, verdict: "timed" };
    return { setting, verdict: "differs", reason: difference(group.result, right.result, call.precision) ?? "" };
  });
}

/** The values that a call makes and changes. */
async function resultOf(call: Call, setting: KnobValues): Promise<Result[]> {
  const { made, all } = scope(() =>
    untaped(() => {
      const changed = call.updates.map((name) => [name, copy(call.tensors[name] as Tensor)] as const);
      const outputs = call.run({ ...call.tensors, ...Object.fromEntries(changed) }, setting);
      const all = [...outputs, ...changed.map(([, tensor]) => tensor)];
      return { made: keep(all), all };
    }),
  );
  try {
    const values = await Promise.all(all.map((tensor) => tensor.read()));
    return all.map(({ dtype }, i) => ({ dtype, values: values[i] as ArrayLike<number> }));
  } finally {
    for (const tensor of made) tensor.dispose();
  }
}

/** How far two settings' results may be apart, of the largest value: what another order of adding costs. */
const tolerances: Readonly<Record<DType, number>> = { f32: 1e-4, f16: 2 ** -9, bf16: 2 ** -6, i32: 0, u32: 0, bool: 0 };

/**
 * Says how a result differs from another; null where the tolerance explains it.
 *
 * @param precision  what values were rounded to on the way
 */
export function difference(got: readonly Result[], want: readonly Result[], precision?: DType): string | null {
  for (const [i, { dtype, values }] of want.entries()) {
    const other = (got[i] as Result).values;
    let [scale, worst, at] = [0, 0, -1];
    for (let j = 0; j < values.length; j++) {
      const [a, b] = [other[j] as number, values[j] as number];
      if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
      if (Object.is(a, b) || a === b) continue;
      const apart = Math.abs(a - b);
      // Of NaN and infinities nothing is near.
      if (!(apart < Infinity)) return `result ${i} is ${a} instead of ${b} at element ${j}`;
      if (apart > worst) [worst, at] = [apart, j];
    }
    const tolerance = Math.max(tolerances[dtype], isFloat(dtype) && precision ? tolerances[precision] : 0);
    if (at >= 0 && worst > tolerance * (isFloat(dtype) ? scale : 1)) {
      return `result ${i} is ${other[at]} instead of ${values[at]} at element ${at}`;
    }
  }
  return null;
}

/** Milliseconds of one run, over the rounds. */
interface Times {
  readonly least: number;
  readonly median: number;
  readonly hopeless: boolean;
}

/** Times each setting, in turns: where the machine is busy with others, it is so for all of them. */
async function time(
  device: Device,
  call: Call,
  settings: readonly KnobValues[],
  rounds: number,
  now: () => number,
): Promise<Map<KnobValues, Times>> {
  const changed = untaped(() => call.updates.map((name) => [name, keep(copy(call.tensors[name] as Tensor))] as const));
  const tensors = { ...call.tensors, ...Object.fromEntries(changed) };
  const once = async (setting: KnobValues, repetitions: number): Promise<number> => {
    await device.sync();
    const begun = now();
    for (let i = 0; i < repetitions; i++) {
      scope(() => untaped(() => void call.run(tensors, setting)));
    }
    await device.sync();
    return (now() - begun) / repetitions;
  };
  try {
    const taken = new Map(settings.map((setting) => [setting, [] as number[]]));
    const timesOf = (setting: KnobValues): number[] => taken.get(setting) as number[];
    const least = (setting: KnobValues): number => Math.min(...timesOf(setting));
    const best = (): number => Math.min(...settings.map(least));
    const lengthOf = (milliseconds: number) => (milliseconds > LONG_MILLISECONDS ? "long" : "short");
    for (let turn = 0; turn < FIRST_RUNS; turn++) {
      const soFar = best();
      const most = soFar * HOPELESS_AT_ONCE[lengthOf(soFar)];
      for (const setting of settings) {
        if (turn === 0 || setting === settings[0] || least(setting) <= most) {
          timesOf(setting).push(await once(setting, 1));
        }
      }
    }
    const fastest = best();
    const length = lengthOf(fastest);
    // The usual setting is what the others are measured by.
    const most = fastest * HOPELESS[length];
    const inRun = settings.filter((one, i) => i === 0 || least(one) <= most);
    const repetitions = Math.min(MOST_REPETITIONS, Math.ceil(ROUND_MILLISECONDS / Math.max(fastest, 1e-3)));
    if (length === "short") for (const setting of inRun) timesOf(setting).length = 0;
    const turns = Math.min(rounds, Math.max(3, Math.floor(MOST_MILLISECONDS / fastest)));
    for (let turn = length === "long" ? FIRST_RUNS : 0; turn < turns; turn++) {
      // Each round begins with another one, for the first of a round may find the caches cold.
      for (let i = 0; i < inRun.length; i++) {
        const setting = inRun[(i + turn) % inRun.length] as KnobValues;
        timesOf(setting).push(await once(setting, repetitions));
      }
    }
    return new Map(
      settings.map((setting) => {
        const sorted = timesOf(setting).toSorted((a, b) => a - b);
        const [least, median] = [sorted[0] as number, sorted[sorted.length >> 1] as number];
        return [setting, { least, median, hopeless: !inRun.includes(setting) }];
      }),
    );
  } finally {
    for (const [, tensor] of changed) tensor.dispose();
  }
}
