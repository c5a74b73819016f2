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

test("a problem is a function of its number, and no training problem is one of the test", () => {
  const problems = createProblems(300);
  expect(new Set(problems.test.map(({ question }) => question)).size).toBe(300);
  expect(createProblems(300).test).toEqual(problems.test);
  // What the test was drawn from, drawn for training: every one of them has to be another.
  const purpose = key(12_345).for("tiny.test");
  const held = new Set(problems.test.map(({ question }) => question));
  for (let sample = 0; sample < 300; sample++) {
    const problem = problems.training(purpose, sample);
    expect(held.has(problem.question)).toBe(false);
    expect(problems.training(purpose, sample)).toEqual(problem);
  }
});

test("a chain is written with a comma and a space, each step as long as the stride", () => {
  const text = chainText([3, 6, 7, 9, 3]);
  expect(text).toBe("3, 6, 7, 9, 3");
  expect([0, 1, 2, 3, 4].map((step) => text[STRIDE * step])).toEqual(["3", "6", "7", "9", "3"]);
});
