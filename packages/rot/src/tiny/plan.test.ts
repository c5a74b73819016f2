import { expect, test } from "vitest";
import { planTiny, tinyArms } from "./plan.ts";

const plan = (secondsPerStep: number, budget = 900) =>
  planTiny({ base: "train", arms: tinyArms, secondsPerStep, budget });

test("what fits is done whole", () => {
  const { base, arms, stages, leftOut } = plan(0.1);
  expect({ base, arms, leftOut }).toEqual({ base: "train", arms: tinyArms, leftOut: [] });
  expect(stages.map(({ name }) => name)).toEqual(["reading", "chains", "direct", "stage1", "stage2", "without-stage1"]);
});

test("on slower devices the base, then arms are left out, and it is said which", () => {
  expect(plan(0.25)).toMatchObject({ base: "shipped", arms: tinyArms });
  expect(plan(0.25).leftOut).toEqual(["the base, for which the one in the package is taken"]);
  expect(plan(0.5).arms).toEqual(["direct", "chain", "rot"]);
  expect(plan(5).arms).toEqual(["chain", "rot"]);
  expect(plan(5).leftOut).toHaveLength(3);
  for (const seconds of [0.01, 0.1, 0.25, 0.5]) expect(plan(seconds).seconds).toBeLessThanOrEqual(900);
});

test("what was not asked for is neither done nor left out", () => {
  const { stages, leftOut } = planTiny({ base: "shipped", arms: ["rot"], secondsPerStep: 5, budget: 900 });
  expect(stages.map(({ name }) => name)).toEqual(["stage1", "stage2"]);
  expect(leftOut).toEqual([]);
});
