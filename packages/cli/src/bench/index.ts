/** The benchmarks' command line and what peers implement, for the `benchmarks` folder of a checkout. */
export { bench, type Checkout } from "../commands/bench.ts";
export { exitCodeOf } from "../exit-codes.ts";
export type { Work } from "./benchmark.ts";
export type { Peer, PeerKind, Peers } from "./peers.ts";
