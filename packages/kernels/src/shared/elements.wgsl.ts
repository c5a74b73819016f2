/** Elementwise kernels: eight neighbouring lanes take neighbouring elements, and each lane several of them, in one block. */
import { main } from "@rot/tensor/kernel";

/** Elements, or vectors of four, that one lane takes. */
export const elementKnobs = { each: [1, 4] } as const;

/** One value for each of {@link elementKnobs}. */
export interface ElementSetting {
  readonly each: (typeof elementKnobs.each)[number];
}

/** An entry point that runs `body` at every `i` below `u.n`. A CPU adapter's subgroup of 8 then reads memory from front to back. */
export const atElements = ({ each }: ElementSetting, body: string): string => `
  ${main(64)}
    for (var k = 0u; k < ${each}u; k++) {
      let i = (group * 64u + lane / 8u * 8u) * ${each}u + k * 8u + lane % 8u;
      if (i >= u.n) { return; }
      ${body}
    }
  }`;

/** Workgroups for so many elements. */
export const elementGroups = (n: number, { each }: ElementSetting): number => Math.ceil(n / (64 * each));
