import { describe, expect, test } from "vitest";
import { UsageError } from "../errors.ts";
import {
  constant,
  constantWithWarmup,
  cosineWithWarmup,
  linearWithWarmup,
  type Schedule,
  warmupLr,
} from "./schedule.ts";

const factors = (schedule: Schedule, steps: number): number[] => Array.from({ length: steps }, (_, i) => schedule(i));
const close = (got: number[], want: number[]): void => {
  expect(got.length).toBe(want.length);
  for (const [i, value] of want.entries()) expect(got[i], `step ${i}`).toBeCloseTo(value, 12);
};

describe("a schedule's first step", () => {
  test("has the factor 0 where it warms up, and 1 where it does not", () => {
    for (const warmup of [1, 5]) {
      for (const make of [constantWithWarmup, warmupLr]) expect(make({ warmup })(0)).toBe(0);
      for (const make of [linearWithWarmup, cosineWithWarmup]) expect(make({ warmup, total: 9 })(0)).toBe(0);
    }
    expect(constant(0)).toBe(1);
    for (const make of [constantWithWarmup, warmupLr]) expect(make({ warmup: 0 })(0)).toBe(1);
    for (const make of [linearWithWarmup, cosineWithWarmup]) expect(make({ warmup: 0, total: 9 })(0)).toBe(1);
  });
});

describe("the schedules of transformers", () => {
  test("stay at 1 after a warm-up", () => {
    close(factors(constantWithWarmup({ warmup: 4 }), 7), [0, 0.25, 0.5, 0.75, 1, 1, 1]);
  });

  test("fall to 0 in a line and stay there", () => {
    close(factors(linearWithWarmup({ warmup: 2, total: 6 }), 9), [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0, 0]);
    close(factors(linearWithWarmup({ warmup: 0, total: 2 }), 4), [1, 0.5, 0, 0]);
  });

  test("fall to 0 along half a cosine", () => {
    const r = Math.SQRT1_2;
    close(factors(cosineWithWarmup({ warmup: 1, total: 5 }), 6), [0, 1, (1 + r) / 2, 0.5, (1 - r) / 2, 0]);
    close(factors(cosineWithWarmup({ warmup: 0, total: 4, cycles: 1 }), 5), [1, 0.5, 0, 0.5, 1]);
  });

  test("do not divide by 0 when the warm-up is the whole training or longer", () => {
    close(factors(linearWithWarmup({ warmup: 2, total: 2 }), 4), [0, 0.5, 0, 0]);
    close(factors(linearWithWarmup({ warmup: 3, total: 2 }), 4), [0, 1 / 3, 2 / 3, 0]);
    expect(factors(cosineWithWarmup({ warmup: 2, total: 2 }), 4).every(Number.isFinite)).toBe(true);
  });
});

describe("DeepSpeed's WarmupLR", () => {
  test("goes up by the logarithm, or in a line", () => {
    const log = (i: number): number => Math.log(i + 1) / Math.log(5);
    close(factors(warmupLr({ warmup: 5 }), 7), [0, log(1), log(2), log(3), log(4), 1, 1]);
    close(factors(warmupLr({ warmup: 5, shape: "linear" }), 7), [0, 0.2, 0.4, 0.6, 0.8, 1, 1]);
  });

  test("begins at the least rate", () => {
    close(factors(warmupLr({ warmup: 2, shape: "linear", least: 0.5 }), 4), [0.5, 0.75, 1, 1]);
  });

  test("does not divide by the logarithm of 1", () => {
    close(factors(warmupLr({ warmup: 1 }), 3), [0, 1, 1]);
  });
});

test("steps that are no numbers are refused by name", () => {
  expect(() => linearWithWarmup({ warmup: -1, total: 5 })).toThrow(/linearWithWarmup: warmup is -1/);
  expect(() => cosineWithWarmup({ warmup: 1, total: Number.NaN })).toThrow(/total is NaN/);
  expect(() => constantWithWarmup({ warmup: Number.NaN })).toThrow(UsageError);
  expect(() => warmupLr({ warmup: -2 })).toThrow(UsageError);
});
