import { describe, expect, it } from "vitest";
import {
  type AdapterIdentity,
  hashOf,
  merged,
  parseTunings,
  printTunings,
  type Tuned,
  TuningError,
  Tunings,
} from "./tunings.ts";

const adapter: AdapterIdentity = {
  vendor: "mesa",
  architecture: "software",
  device: "llvmpipe",
  description: "Mesa 25",
};
const one: Tuned = {
  kernel: "rmsNorm",
  source: "ab",
  problem: "f32 3 5 ",
  setting: { lanes: 8, wide: true },
  ratio: 0.5,
};

describe("the tuner's choices", () => {
  it("are read as they were printed", () => {
    expect(parseTunings(printTunings(adapter, [one]), adapter)).toEqual([one]);
    expect(parseTunings(printTunings(adapter, []), adapter)).toEqual([]);
  });

  const file = (change: object) => JSON.stringify({ format: 1, adapter, choices: [one], ...change });
  it.for([
    ["no JSON", ""],
    ['"format"', "null"],
    ['"format"', "[]"],
    ['"format"', file({ format: 2 })],
    ["another adapter or driver", file({ adapter: { ...adapter, description: "Mesa 26" } })],
    ["another adapter", file({ adapter: undefined })],
    ['"choices"', file({ choices: {} })],
    ["at most 20000", file({ choices: Array(20_001).fill(one) })],
    ["choices[1] is no object", file({ choices: [one, null] })],
    ["choices[0] lacks", file({ choices: [{ ...one, source: 3 }] })],
    ["ratio", file({ choices: [{ ...one, ratio: "1" }] })],
    ["setting", file({ choices: [{ ...one, setting: { lanes: null } }] })],
    ["setting", file({ choices: [{ ...one, setting: [8] }] }).replace("[8]", "8")],
  ] as const)("are refused: %s", ([why, text]) => {
    expect(() => parseTunings(text, adapter)).toThrow(TuningError);
    expect(() => parseTunings(text, adapter)).toThrow(why);
  });

  it("cannot reach a prototype", () => {
    const text = file({ choices: [{ ...one, kernel: "__proto__", setting: {} }] }).replace(
      '"setting":{}',
      '"setting":{"__proto__":8}',
    );
    const tunings = new Tunings("cached", parseTunings(text, adapter));
    expect(tunings.find("__proto__", "ab", one.problem)).toBeDefined();
    expect(tunings.find("toString", "ab", one.problem)).toBeUndefined();
    expect(({} as { lanes?: number }).lanes).toBeUndefined();
  });

  it("replace older ones for the same call, and leave those of other sources unless told to forget", () => {
    const stale = { ...one, source: "old" };
    const other = { ...one, kernel: "swiglu", source: "old" };
    const newer = { ...one, setting: { lanes: 4, wide: true } };
    expect(merged([one, stale, other], [newer])).toEqual([newer, stale, other]);
    expect(merged([one, stale, other], [newer], new Set(["rmsNorm"]))).toEqual([newer, other]);
  });

  it("are found by kernel, source and problem, and by nothing less", () => {
    const tunings = new Tunings("cached", [one]);
    expect(tunings.find("rmsNorm", "ab", one.problem)).toEqual(one.setting);
    expect(tunings.find("rmsNorm", "ac", one.problem)).toBeUndefined();
    expect(tunings.find("rmsNorm", "ab", "f32 3 6 ")).toBeUndefined();
    expect([tunings.concerns("rmsNorm"), tunings.concerns("swiglu")]).toEqual([true, false]);
    tunings.add([one, { ...one, problem: "bf16 3 5 " }]);
    expect(tunings.size).toBe(2);
    tunings.collect = () => {};
    expect(tunings.concerns("swiglu")).toBe(true);
  });

  it("hang on a hash that sees every character and where texts end", () => {
    const texts = [["ab"], ["a", "b"], ["ab", ""], ["", "ab"], ["ba"], ["aB"], [""], []];
    expect(new Set(texts.map((text) => hashOf(...text))).size).toBe(texts.length);
    expect(hashOf("ab")).toMatch(/^[0-9a-f]{16}$/);
  });
});
