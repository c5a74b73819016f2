/** Elementwise kernels: neighbouring lanes take neighbouring elements, and each lane several of them, a workgroup apart. */
import { main } from "@rot/tensor/kernel";

/** Elements, or vectors of four, that one lane takes. */
export const elementKnobs = { each: [1, 4] } as const;

/** One value for each of {@link elementKnobs}. */
export interface ElementSetting {
  readonly each: (typeof elementKnobs.each)[number];
}

/** An entry point that runs `body` at every `i` below `u.n`. */
export const atElements = ({ each }: ElementSetting, body: string): string => `
  ${main(64)}
    for (var k = 0u; k < ${each}u; k++) {
      let i = group * ${64 * each}u + k * 64u + lane;
      if (i >= u.n) { return; }
      ${body}
    }
  }`;

/** Workgroups for so many elements. */
export const elementGroups = (n: number, { each }: ElementSetting): number => Math.ceil(n / (64 * each));
