/** Collecting garbage when it is not memory that runs out. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collector: (() => void) | undefined;

/**
 * Collects all garbage now. The engine of JavaScript sees a bind group as a few bytes and lets thousands of dead ones lie;
 * lavapipe has a memory mapping for each, and Linux ends a process that has 65,530 of them.
 */
export function collectGarbage(): void {
  if (!collector) {
    setFlagsFromString("--expose-gc");
    collector = runInNewContext("gc") as () => void;
  }
  collector();
}
