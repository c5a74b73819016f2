import { describe, expect, test } from "vitest";
import { UsageError } from "../errors.ts";
import { key } from "./key.ts";

const state = (k: ReturnType<typeof key>): string => JSON.stringify(k.uniforms);

describe("a random key", () => {
  test("is the same for the same seed, purpose, step and sample", () => {
    expect(state(key(7).for("dropout", 3).at(5))).toBe(state(key(7).for("dropout", 3).at(5)));
    expect(key(key(7))).toEqual(key(7));
  });

  test("differs as soon as one of them does, also for purposes that nest, share a prefix or end in NUL", () => {
    const keys = [
      key(7),
      key(8),
      key(7 + 2 ** 32),
      key(7).at(1),
      key(7).for(""),
      key(7).for("\0"),
      key(7).for("a"),
      key(7).for("a\0"),
      key(7).for("aaaaaa"),
      key(7).for("aaaaaaa"),
      key(7).for("a", 1),
      key(7).for("a", 1).at(1),
      key(7).at(1).for("a"),
      key(7).for("a").for("b"),
      key(7).for("b").for("a"),
      key(7).for("ab"),
      key(7).for("a", 1).for("b"),
      key(7).for("a").at(1).for("b"),
    ];
    expect(new Set(keys.map(state)).size).toBe(keys.length);
  });

  test("has words of its own for each of 100,000 purposes", () => {
    const words = new Set<string>();
    for (let i = 0; i < 100_000; i++) words.add(key(1).for(`layers.${i}.dropout`).words.join());
    expect(words.size).toBe(100_000);
  });

  test("refuses seeds, steps and samples that are no counters", () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => key(seed)).toThrow(UsageError);
    for (const step of [-1, 0.5, 2 ** 32]) {
      expect(() => key(1).for("a", step)).toThrow(/step is/);
      expect(() => key(1).at(step)).toThrow(/sample is/);
    }
  });
});
