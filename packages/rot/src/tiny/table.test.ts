import { expect, test } from "vitest";
import type { TinyRow } from "./results.ts";
import { tinyTable } from "./table.ts";

const row = { seconds: 1.25, trainingSeconds: 40 };
const details: NonNullable<TinyRow["details"]> = {
  accuracy: 0.95,
  thoughts: 5,
  seconds: 1.25,
  ablations: { other: 0.1, mean: 0.12, reversed: 0.13, zeros: 0, none: 0, drawn: 1 },
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
500 test problems, none of which was trained on or looked at before (±: one standard error)

                                   accuracy    ±  tokens or latents  seconds to train  seconds to answer
answer at once                       20.0 %  1.8                0.0                40                1.3
Render-of-Thought, stage 1           50.0 %  2.2                5.0                40                1.3
Render-of-Thought, stages 1 and 2    95.0 %  1.0                5.0                40                1.3

answer at once                     the base, trained further to answer without any steps
Render-of-Thought, stage 1         a head on the unchanged base learned to think in five latents
Render-of-Thought, stages 1 and 2  then the decoder learned, by LoRA, to answer after its own latents

The base was pre-trained on problems whose reasoning is partly picture, partly text: without that, a model as
small as this one does not learn to think in latents.

Render-of-Thought, stages 1 and 2: accuracy when it answers from other latents
its own                                  95.0 %
another question's                       10.0 %
their mean over all questions            12.0 %
its own in reverse order                 13.0 %
zeros                                     0.0 %
none at all                               0.0 %
what the tower sees in the right chain  100.0 %
Where another question's latents do no better than a guess (10 to 15 %), its answers come from its own.
The last latent alone holds the answer; what the others are for, the gap to answering at once shows.

What it was thinking: the base reads its latents as it reads strips
question       right steps  steps read in its latents
8-5+3+1+2*7  3, 6, 7, 9, 3              3, 6, 7, 9, 2
Of all latents 1 to 5 it reads the right digit in 100.0 %, 99.0 %, 98.0 %, 97.0 %, 96.0 %`);
});

test("arms without latents are a table and what they are", () => {
  const text = tinyTable({ rows: [{ arm: "chain", accuracy: 1, thoughts: 13, ...row }], problems: 10 });
  expect(text.match(/^chain of thought as text .*$/gm)).toHaveLength(2);
  expect(text).not.toContain("its own");
  const thinkers: TinyRow[] = [{ arm: "rot", accuracy: 0.95, thoughts: 5, ...row, details }];
  expect(tinyTable({ rows: thinkers, problems: 10 })).not.toContain("answering at once");
});
