import { expect, test } from "vitest";
import type { TinyRow } from "./results.ts";
import { tinyTable } from "./table.ts";

const row = { seconds: 1.25, trainingSeconds: 40 };
const details: NonNullable<TinyRow["details"]> = {
  accuracy: 0.95,
  thoughts: 5,
  seconds: 1.25,
  ablations: { other: 0.1, mean: 0.12, shuffled: 0.13, zeros: 0, none: 0, drawn: 1 },
  readable: [1, 0.99, 0.98, 0.97, 0.96],
  examples: [{ question: "8-5+3+1+2*7", right: "3, 6, 7, 9, 3", read: "3, 6, 7, 9, 2" }],
};

test("the table has a line an arm, the parts of the accuracy, and what was thought", () => {
  const rows: TinyRow[] = [
    { arm: "direct", accuracy: 0.2, thoughts: 0, ...row },
    { arm: "rot-stage1", accuracy: 0.5, thoughts: 5, ...row, details: { ...details, accuracy: 0.5 } },
    { arm: "rot", accuracy: 0.95, thoughts: 5, ...row, details },
  ];
  expect(`\n${tinyTable({ rows, problems: 500 })}`).toBe(`
                                   accuracy    ±  tokens or latents  seconds to train  seconds for 500 answers
answers at once                      20.0 %  1.8                0.0                40                      1.3
Render-of-Thought, stage 1           50.0 %  2.2                5.0                40                      1.3
Render-of-Thought, stages 1 and 2    95.0 %  1.0                5.0                40                      1.3

Render-of-Thought, stages 1 and 2: accuracy by the latents that it answers from
its own                                  95.0 %
another question's                       10.0 %
their mean over all questions            12.0 %
in reverse order                         13.0 %
zeros                                     0.0 %
none at all                               0.0 %
what the tower sees in the right chain  100.0 %

The base reads the right digit in its latents 1 to 5: 100.0 %, 99.0 %, 98.0 %, 97.0 %, 96.0 %
question       right steps  steps read in its latents
8-5+3+1+2*7  3, 6, 7, 9, 3              3, 6, 7, 9, 2`);
});

test("arms without latents are a table alone", () => {
  expect(
    tinyTable({ rows: [{ arm: "chain", accuracy: 1, thoughts: 13, ...row }], problems: 10 }).split("\n"),
  ).toHaveLength(2);
});
