/** How a kernel of 64 lanes walks elements that do not depend on each other: some a lane. */
import type { Device } from "../gpu/device.ts";

/** Elements, or vectors of them, that a lane takes. */
export const elementKnobs = { each: [1, 8] } as const;

interface Each {
  readonly each: (typeof elementKnobs.each)[number];
}

/** A lane of a CPU adapter takes several: that spares starts of workgroups. Lanes of a GPU are many. */
export const elementsOf = ({ kind }: Device): Each => ({ each: kind === "hardware" ? 1 : 8 });

/**
 * Opens the walk of a lane over its part of `n` (a WGSL expression) elements: a block that is run with each as `i`. A
 * subgroup of 8 reads memory from front to back, for caches are filled in that order; in the order of whole workgroups it
 * takes twice as long on a CPU.
 *
 * @param group  the index of the workgroup among those that share the elements
 */
export const openElements = (n: string, each: Each["each"], group = "group"): string =>
  each === 1
    ? `let i = ${group} * 64u + lane;
       if (i < ${n}) {`
    : `let first = (${group} * 64u + lane / 8u * 8u) * ${each}u + lane % 8u;
       for (var i = first; i < min(first + ${8 * each}u, ${n}); i += 8u) {`;
