/** Timing: candidates in turn, round by round, so that a busy minute touches all of them alike. */
import { type Device, scope } from "@rot/tensor";

/** One thing to time. */
export interface Candidate {
  readonly name: string;
  /** Records the work once; what it returns is freed. */
  readonly run: () => unknown;
  /** Where they differ from those of the benchmark. */
  readonly bytes?: number;
}

/** Milliseconds of the rounds, from the first to the last. */
export type Rounds = readonly number[];

/** The middle of some numbers. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Work is repeated within a round until it takes so long: shorter ones drown in the cost of waiting. */
const LEAST_MILLISECONDS = 20;

/**
 * Times candidates on one device.
 *
 * @returns for each candidate the milliseconds of one run, in each round
 */
export async function time(
  device: Device,
  candidates: readonly Candidate[],
  rounds: number,
): Promise<Map<string, Rounds>> {
  const repeats = new Map<Candidate, number>();
  for (const candidate of candidates) {
    await once(device, candidate, 1); // compiles
    const milliseconds = await once(device, candidate, 1);
    repeats.set(candidate, Math.max(1, Math.ceil(LEAST_MILLISECONDS / milliseconds)));
  }
  const results = new Map<string, number[]>(candidates.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const candidate of candidates) {
      results.get(candidate.name)?.push(await once(device, candidate, repeats.get(candidate) as number));
    }
  }
  return results;
}

async function once(device: Device, { run }: Candidate, repeats: number): Promise<number> {
  const from = performance.now();
  for (let i = 0; i < repeats; i++) {
    scope(() => {
      run();
    });
  }
  await device.sync();
  return (performance.now() - from) / repeats;
}
