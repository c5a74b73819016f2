/** What a benchmark is. */
import type { Device, Tensor } from "@rot/tensor";
import { fingerprint } from "./noise.ts";

/** What is done, for peers to do the same: a name they know, and its sizes. */
export interface Work {
  readonly name: string;
  readonly sizes: Readonly<Record<string, number>>;
}

/** One way to do the work. */
export interface Candidate {
  readonly name: string;
  /** Records the work once; the tensors it makes are freed. */
  readonly run?: () => unknown;
  /** In place of it: does the work once and waits for a number of it on the host, freeing its tensors itself. */
  readonly runAndWait?: () => Promise<unknown>;
  /** The candidate that it is measured against. */
  readonly reference?: string;
  /** Where they differ from those of the benchmark. */
  readonly flops?: number;
  readonly bytes?: number;
  /** The fingerprint of its result, when it is the candidate that peers are measured against. */
  readonly check?: () => Promise<readonly number[]>;
}

/** One kind of work, and the candidates that do it. */
export interface Benchmark {
  readonly name: string;
  /** Operations and bytes of the work, where it has them; bytes if every tensor is touched once. */
  readonly flops?: number;
  readonly bytes?: number;
  /** Tokens of a run, for work that is counted in them. */
  readonly tokens?: number;
  /** What peers are asked to do beside it. */
  readonly work?: Work;
  /** How many times faster than the best WebGPU peer it shall be; 1 if not given. */
  readonly target?: number;
  /** Whether it runs only when it is asked for by name. */
  readonly onlyByName?: boolean;
  readonly prepare: (device: Device) => readonly Candidate[] | Promise<readonly Candidate[]>;
}

/** The {@link Candidate.check} of a tensor that something makes. */
export const checkOf = (make: () => Tensor) => async (): Promise<readonly number[]> => {
  const y = make();
  const found = fingerprint(await y.read());
  y.dispose();
  return found;
};
