import { key } from "@rot/tensor";
import { expect, test } from "vitest";
import { chainText, createProblems, drawProblem, STEPS, STRIDE } from "./problems.ts";

/** Works a question out, reading it from left to right. */
function solve(question: string): number[] {
  const values: number[] = [];
  let value = Number(question[0]);
  for (const [, sign, operand] of question.slice(1).matchAll(/([-+*])(\d)/g)) {
    const by = Number(operand);
    const next = sign === "+" ? value + by : sign === "-" ? value - by : value * by;
    value = ((next % 10) + 10) % 10;
    values.push(value);
  }
  return values;
}

test("every problem is a digit and five operations, and its values are right", () => {
  for (let sample = 0; sample < 2000; sample++) {
    const { question, values } = drawProblem(key(3).at(sample));
    expect(question).toMatch(/^\d([-+][1-9]|\*[2-9]){5}$/);
    expect(values, question).toEqual(solve(question));
    expect(values).toHaveLength(STEPS);
  }
});

test("all signs, operands and first digits come, about equally often", () => {
  const counts = new Map<string, number>();
  for (let sample = 0; sample < 3000; sample++) {
    const { question } = drawProblem(key(4).at(sample));
    for (const part of [`first ${question[0]}`, ...(question.match(/[-+*]\d/g) as string[])]) {
      counts.set(part, (counts.get(part) ?? 0) + 1);
    }
  }
  expect(counts.size).toBe(10 + 9 + 9 + 8);
  for (const [part, count] of counts) {
    const expected = part.startsWith("first") ? 300 : part.startsWith("*") ? 625 : 5000 / 9;
    expect(Math.abs(count - expected), part).toBeLessThan(6 * Math.sqrt(expected));
  }
});

test("training, validation and test have no problem in common, and each problem is a function of its number", () => {
  const problems = createProblems();
  const { validation, test: held } = problems;
  const questions = new Set([...validation, ...held].map(({ question }) => question));
  expect([validation.length, held.length, questions.size]).toEqual([500, 500, 1000]);
  const { validation: again, test: heldAgain } = createProblems();
  expect({ again, heldAgain }).toEqual({ again: validation, heldAgain: held });
  // What each was drawn from, drawn for training: every one of them has to be another.
  for (const seed of [12_345, 20_261_121]) {
    const purpose = key(seed).for("tiny.test");
    const drawn = Array.from({ length: 500 }, (_, sample) => problems.training(purpose, sample));
    expect(drawn.filter(({ question }) => questions.has(question))).toEqual([]);
    expect(drawProblem(purpose.at(0)).question).toSatisfy((question: string) => questions.has(question));
    expect(problems.training(purpose, 3)).toEqual(drawn[3]);
  }
});

test("a chain is written with a comma and a space, each step as long as the stride", () => {
  const text = chainText([3, 6, 7, 9, 3]);
  expect(text).toBe("3, 6, 7, 9, 3");
  expect([0, 1, 2, 3, 4].map((step) => text[STRIDE * step])).toEqual(["3", "6", "7", "9", "3"]);
});
