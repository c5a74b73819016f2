import { expect, test } from "vitest";
import { planTiny, replan, tinyArms } from "./plan.ts";

const plan = (secondsPerStep: number, budget = 900) =>
  planTiny({ base: "train", arms: tinyArms, secondsPerStep, budget });

test("what fits is done whole", () => {
  const { base, arms, stages, seconds, leftOut } = plan(0.1);
  expect({ base, arms, leftOut }).toEqual({ base: "train", arms: tinyArms, leftOut: [] });
  expect(stages.filter(({ name }) => !name.startsWith("evaluating")).map(({ name }) => name)).toEqual([
    "reading",
    "chains",
    "cooldown",
    "direct",
    "stage1",
    "stage2",
    "without-stage1",
  ]);
  expect(seconds).toBeCloseTo(stages.reduce((sum, { steps, cost }) => sum + 0.1 * steps * cost, 0));
});

test("on slower devices the base, then arms are left out, and it is said which", () => {
  expect(plan(0.25)).toMatchObject({ base: "shipped", arms: tinyArms });
  expect(plan(0.25).leftOut).toEqual(["the training of the base (the one in the package is taken)"]);
  expect(plan(0.5).arms).toEqual(["direct", "chain", "rot"]);
  expect(plan(5).arms).toEqual(["chain", "rot"]);
  expect(plan(5).leftOut).toHaveLength(3);
  for (const seconds of [0.01, 0.1, 0.25, 0.5]) expect(plan(seconds).seconds).toBeLessThanOrEqual(900);
});

test("what was not asked for is neither done nor left out", () => {
  const { stages, leftOut } = planTiny({ base: "shipped", arms: ["rot"], secondsPerStep: 5, budget: 900 });
  expect(stages.map(({ name }) => name)).toEqual(["stage1", "evaluating rot-stage1", "stage2", "evaluating rot"]);
  expect(leftOut).toEqual([]);
});

test("when time becomes short on the way, arms that have not begun are left out, and nothing else", () => {
  const whole = plan(0.1);
  expect(replan(whole, "rot", { secondsPerStep: 0.1, budget: 400 })).toBe(whole);
  const short = replan(whole, "rot", { secondsPerStep: 0.2, budget: 300 });
  expect(short).toMatchObject({ base: "train", arms: ["direct", "chain", "rot"] });
  expect(short.leftOut).toEqual(["Render-of-Thought without stage 1"]);
  expect(short.stages.map(({ name }) => name)).toContain("reading");
  expect(short.seconds).toBeLessThan(300);
  const late = replan(short, "without-stage1", { secondsPerStep: 9, budget: 0 });
  expect(late).toBe(short);
  expect(replan(whole, "direct", { secondsPerStep: 9, budget: 0 }).arms).toEqual(["chain", "rot"]);
});
