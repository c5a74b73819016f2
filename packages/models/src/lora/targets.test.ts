import { UsageError } from "@rot/tensor";
import { expect, test } from "vitest";
import { isTarget, patternValue, type Targets } from "./targets.ts";

const q = "model.language_model.layers.10.self_attn.q_proj";
const fc = "model.visual.blocks.0.mlp.linear_fc1";

test.for<[Targets, string, boolean]>([
  [["q_proj"], q, true],
  [["k_proj", "q_proj"], q, true],
  [["proj"], q, false],
  [["_proj"], q, false],
  [["self_attn.q_proj"], q, true],
  [[q], q, true],
  [["q_proj"], "q_proj", true],
  [["q.proj"], q, false],
  ["q_proj", q, false],
  [String.raw`.*\.q_proj`, q, true],
  [String.raw`model\.language_model.*\.(q_proj|v_proj)`, q, true],
  [String.raw`model\.language_model.*(q|v)`, q, false],
  [String.raw`model\.visual.*|nothing`, q, false],
  [String.raw`.*layers\.[0-9]\..*`, q, false],
  [String.raw`.*layers\.[0-9]{1,2}\..*`, q, true],
  [
    String.raw`(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.q)`,
    q,
    true,
  ],
  ["all-linear", q, true],
  ["all-linear", fc, true],
  ["all-linear", "lm_head", false],
])("%j on %s: %s", ([targets, path, wanted]) => {
  expect(isTarget(path, targets)).toBe(wanted);
});

test.for([
  ["(.*)*x", "repeats a group"],
  ["(a|a)+", "repeats a group"],
  ["(a){2,}", "repeats a group"],
  [".*a".repeat(5), "repeats more than 4 things"],
  [".*?a".repeat(5), "repeats more than 4 things"],
  ["a{0,}".repeat(5), "repeats more than 4 things"],
  [".{0,99}".repeat(5), "repeats more than 4 things"],
  [".?".repeat(5), "repeats more than 4 things"],
  [`q|(?:a|b${".+".repeat(5)})`, "repeats more than 4 things"],
  ["(", "is no regular expression"],
  [String.raw`q\Z`, "is no regular expression"],
  ["(?P<x>q)", "is no regular expression"],
  ["a".repeat(1001), "longer than 1000"],
] as const)("the expression %s is refused", ([source, why]) => {
  expect(() => isTarget(q, source)).toThrow(UsageError);
  expect(() => isTarget(q, source)).toThrow(why);
  expect(() => patternValue(new Map([[source, 1]]), q)).toThrow(why.replace("4", "1"));
});

test("the slowest expressions that pass end soon", () => {
  const path = "a".repeat(80);
  for (const piece of [".*", ".*?", ".+", ".{0,99}"]) expect(isTarget(path, `${piece.repeat(4)}x`)).toBe(false);
});

test("an escaped bracket or star is no repetition", () => {
  expect(isTarget("a(b)*", String.raw`a\(b\)\*`)).toBe(true);
  expect(isTarget("*+*+*+", "[*+]{6}")).toBe(true);
});

test("a pattern names the last parts of a path; the first that matches counts", () => {
  const patterns = new Map([
    ["layers.1.self_attn.q_proj", 1],
    [String.raw`layers\.\d+\.self_attn.q_proj`, 2],
    ["q_proj", 3],
    ["proj", 4],
  ]);
  expect(patternValue(patterns, q)).toBe(2);
  expect(patternValue(patterns, "q_proj")).toBe(3);
  expect(patternValue(patterns, "k_proj")).toBeUndefined();
  expect(patternValue(patterns, fc)).toBeUndefined();
});
