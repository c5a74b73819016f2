import { key } from "@rot/tensor";
import { expect, test } from "vitest";
import { split } from "./split.ts";
import { syntheticSample, syntheticSamples } from "./synthetic.ts";

test("every step of a chain is right, goes on from the one before, and ends in the answer", () => {
  for (const { cot, answer, question } of syntheticSamples(key(1), 0, 2000, { steps: [1, 6], largest: 50 })) {
    let count = Number(/has (\d+) /.exec(question)?.[1]);
    for (const line of cot.split("\n")) {
      const [, a, op, b, c] = /^(\d+) ([-+*/]) (\d+) = (\d+) /.exec(line) as unknown as [
        string,
        string,
        string,
        string,
        string,
      ];
      expect(Number(a)).toBe(count);
      const results: Record<string, number> = { "+": +a + +b, "-": +a - +b, "*": +a * +b, "/": +a / +b };
      expect(Number(c)).toBe(results[op]);
      count = Number(c);
      expect(count).toBeGreaterThan(0);
    }
    expect(answer).toBe(String(count));
  }
});

test("a sample depends on its key and number alone", () => {
  expect(syntheticSamples(key(3), 10, 12)).toEqual([syntheticSample(key(3), 10), syntheticSample(key(3), 11)]);
  expect(syntheticSample(key(4), 10)).not.toEqual(syntheticSample(key(3), 10));
});

test("the difficulty can be set: steps and sizes", () => {
  const easy = syntheticSamples(key(5), 0, 200, { steps: [1, 1], largest: 5 });
  const hard = syntheticSamples(key(5), 0, 200, { steps: [6, 6], largest: 100 });
  expect(easy.every(({ cot }) => !cot.includes("\n"))).toBe(true);
  expect(hard.every(({ cot }) => cot.split("\n").length === 6)).toBe(true);
  expect(new Set(hard.map(({ question }) => question)).size).toBe(200);
});

test("a split is by sample: adding others or another order moves none", () => {
  const samples = syntheticSamples(key(6), 0, 4000);
  const { train, validation } = split(samples, 0.1, 0);
  expect(validation.length).toBeGreaterThan(330);
  expect(validation.length).toBeLessThan(470);
  expect(train.length + validation.length).toBe(4000);
  const half = split(samples.slice(2000).toReversed(), 0.1, 0).validation;
  expect(new Set(half)).toEqual(new Set(validation.filter((sample) => (sample.id as number) >= 2000)));
  expect(split(samples, 0.1, 1).validation).not.toEqual(validation);
  expect(split(samples, 0, 0).validation).toEqual([]);
  expect(split(samples, 1, 0).train).toEqual([]);
});
