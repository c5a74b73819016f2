/** Other engines, each in a process of its own. Who they are and how they are started stands beside them, in `benchmarks`. */
import type { Work } from "./benchmark.ts";
import type { Contestant } from "./timing.ts";

/** What an engine computes on. */
export type PeerKind = "webgpu" | "wasm" | "cpu";

/** An engine that runs. */
export interface Peer extends Contestant {
  readonly name: string;
  readonly kind: PeerKind;
  readonly version: string;
  /**
   * Readies it for some work, in place of what it did before.
   *
   * @returns the fingerprint of its result, or null when it has no such work
   * @throws {Error} when it fails
   */
  prepare(work: Work): Promise<readonly number[] | null>;
  /** Ends it. */
  stop(): void;
}

/** The engines that could be asked. */
export interface Peers {
  readonly names: readonly string[];
  /**
   * Starts engines.
   *
   * @returns those that run, and why the others do not
   */
  start(names: readonly string[]): Promise<{
    readonly running: readonly Peer[];
    readonly missing: readonly { readonly name: string; readonly why: string }[];
  }>;
}
