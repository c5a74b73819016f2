/** Timing: contestants in turn, round by round, so that a busy minute touches all of them alike. */
import { type Device, scope } from "@rot/tensor";

/** Whoever can be timed: a piece of work on our device, or a peer in a process of its own. */
export interface Contestant {
  /**
   * Does its work so many times and waits until all of it is done.
   *
   * @returns  milliseconds for all of it
   */
  time(repeats: number): Promise<number>;
}

/** How long to go on. */
export interface Patience {
  readonly rounds: number;
  /** A contestant that has taken so long, in milliseconds, stops after {@link LEAST_ROUNDS}. */
  readonly budget?: number;
}

const BUDGET = 3000;
/** Fewer have no spread. */
const LEAST_ROUNDS = 3;
/** Work is repeated within a round until it takes so long, in milliseconds: shorter ones drown in the cost of waiting. */
const LEAST_MILLISECONDS = 20;
const MOST_REPEATS = 2000;

/**
 * Times contestants in interleaved rounds, after two runs of each that count for nothing: the first compiles.
 *
 * @returns for each contestant the milliseconds of one run, in each of its rounds; in place of them what it threw
 */
export async function interleave<C extends Contestant>(
  contestants: readonly C[],
  { rounds, budget = BUDGET }: Patience,
): Promise<Map<C, readonly number[] | Error>> {
  const results = new Map<C, number[] | Error>();
  const repeats = new Map<C, number>();
  const attempt = async (contestant: C, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      results.set(contestant, error as Error);
    }
  };
  for (const contestant of contestants) {
    results.set(contestant, []);
    await attempt(contestant, async () => {
      await contestant.time(1);
      const milliseconds = Math.max(await contestant.time(1), LEAST_MILLISECONDS / MOST_REPEATS);
      repeats.set(contestant, Math.max(1, Math.ceil(LEAST_MILLISECONDS / milliseconds)));
    });
  }
  const spent = new Map<C, number>();
  for (let round = 0; round < rounds; round++) {
    for (const contestant of contestants) {
      const own = results.get(contestant);
      const before = spent.get(contestant) ?? 0;
      if (!own || own instanceof Error || (round >= LEAST_ROUNDS && before > budget)) continue;
      await attempt(contestant, async () => {
        const count = repeats.get(contestant) as number;
        const milliseconds = await contestant.time(count);
        spent.set(contestant, before + milliseconds);
        own.push(milliseconds / count);
      });
    }
  }
  return results;
}

/** What {@link onDevice} times: one of both. */
interface Runs {
  readonly run?: () => unknown;
  readonly runAndWait?: () => Promise<unknown>;
}

/**
 * Work on our device as a contestant. Before it is timed it runs once: the others may have emptied the device's pool of
 * buffers since its last turn, and peers, each in a process of its own, never lose theirs.
 *
 * @param work  `run` records the work once, and the tensors it makes are freed; `runAndWait` sees to everything itself
 * @param now   milliseconds
 */
export const onDevice = (
  device: Pick<Device, "sync">,
  { run, runAndWait }: Runs,
  now: () => number = () => performance.now(),
): Contestant => ({
  async time(repeats) {
    const work = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) {
        if (runAndWait) await runAndWait();
        else scope(() => void run?.());
      }
      await device.sync();
    };
    await work(1);
    const from = now();
    await work(repeats);
    return now() - from;
  },
});

/** The number below which a share of some numbers lies, between neighbours in proportion. NaN of none. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [low = NaN, high = low] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

/** The middle of some numbers. */
export const median = (numbers: readonly number[]): number => quantile(numbers, 0.5);
