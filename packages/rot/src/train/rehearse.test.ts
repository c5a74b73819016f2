/** Which steps are worth rehearsing. */
import { expect, test } from "vitest";
import { stepsToRehearse } from "./rehearse.ts";

/** Samples of so many tokens of question, latents and tokens of answer, two to a step, in their order. */
const choose = (sizes: readonly (readonly [number, number, number])[], done = 0, batchSize = 2, steps?: number) =>
  stepsToRehearse(
    {
      samples: sizes.map(([question, , answer]) => ({
        question: new Int32Array(question),
        answer: new Int32Array(answer),
      })),
      counts: sizes.map(([, latents]) => latents),
    },
    {
      steps: steps ?? sizes.length / 2,
      samples: (step) => [(2 * step) % sizes.length, (2 * step + 1) % sizes.length],
    },
    batchSize,
    done,
  );

const plain = [4, 4, 4] as const;

test("the first, and of the others the largest in each respect", () => {
  const twice = <T>(one: T): [T, T] => [one, one];
  const longest = [[20, 4, 4], plain] as const;
  const latents = twice([1, 12, 1] as const);
  const answers = twice([1, 1, 12] as const);
  expect(choose([...twice(plain), ...longest, ...latents, ...twice(plain), ...answers])).toEqual([0, 1, 2, 4]);
  // Without padding the second would be larger.
  const uneven = [
    [17, 4, 0],
    [1, 4, 8],
  ] as const;
  const even = twice([11, 4, 4] as const);
  expect(choose([...twice(plain), ...uneven, ...even])).toEqual([0, 1]);
  // What the roll-out remembers are the longest question and the most latents, though not of one sample.
  const apart = [
    [7, 0, 0],
    [0, 12, 0],
  ] as const;
  expect(choose([...twice(plain), ...twice([8, 8, 8] as const), ...apart])).toEqual([0, 1, 2]);
});

test("the first counts among the others only where the optimizer has its state, or where it is the only one", () => {
  const large = [20, 20, 20] as const;
  expect(choose([large, large, plain, plain])).toEqual([0, 1]);
  expect(choose([large, large, plain, plain], 0, 2, 3)).toEqual([0, 2]);
  expect(choose([plain, plain, large, large, plain, plain], 1)).toEqual([1, 1]);
  expect(choose([large, large])).toEqual([0, 0]);
  expect(choose([plain, plain, large, large], 2)).toEqual([1, 1]);
});
