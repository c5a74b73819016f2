import { expect, test } from "vitest";
import { generalRounding, roundBy, unit } from "./fixed.ts";
import { Interpreter, type Memory } from "./interpreter.ts";
import { type GraphicsState, HintingError, initialState, type Zone, zone } from "./state.ts";

interface Run {
  readonly stack: number[];
  readonly glyph: Zone;
  readonly state: GraphicsState;
  readonly memory: Memory;
}

/** Runs a program on a contour at (0, 0), (0, 100), (100, 130), (100, 0), in font units of a 64th of a pixel, and 4 phantoms. */
function run(...code: readonly number[]): Run {
  const memory: Memory = {
    functions: new Map(),
    storage: new Int32Array(4),
    cvt: Float64Array.of(70, 200),
    twilight: zone(4),
    ppem: 16,
    unitsPerEm: 1024,
  };
  const glyph = zone(8, [3]);
  for (const [i, [x, y]] of (
    [
      [0, 0],
      [0, 100],
      [100, 130],
      [100, 0],
    ] as const
  ).entries()) {
    glyph.unscaledX[i] = glyph.originalX[i] = glyph.x[i] = x;
    glyph.unscaledY[i] = glyph.originalY[i] = glyph.y[i] = y;
  }
  const state = initialState();
  const interpreter = new Interpreter(Uint8Array.from(code), memory, state, glyph, false);
  interpreter.run();
  return { stack: [...interpreter.stack], glyph, state, memory };
}

const push = (...values: readonly number[]): number[] => [0x40, values.length, ...values];

test.for([
  ["words", [0xb9, 0xff, 0xfe, 0x01, 0x00], [-2, 256]],
  ["add, subtract", [...push(5, 3), 0x60, ...push(10), 0x61], [-2]],
  ["divide and multiply in 64ths", [...push(128, 32), 0x62, ...push(96), 0x63], [384]],
  ["floor and ceiling", [...push(100), 0x66, ...push(100), 0x67], [64, 128]],
  ["swap, dup, depth", [...push(1, 2), 0x23, 0x20, 0x24], [2, 1, 1, 3]],
  ["roll", [...push(1, 2, 3), 0x8a], [2, 3, 1]],
  ["copy and move by index", [...push(7, 8, 9, 3), 0x25, ...push(4), 0x26], [8, 9, 7, 7]],
  [
    "if and else",
    [...push(0), 0x58, ...push(1), 0x1b, ...push(2), 0x59, ...push(1), 0x58, ...push(3), 0x1b, ...push(4), 0x59],
    [2, 3],
  ],
  ["an if that is skipped skips operands too", [...push(0), 0x58, ...push(0x59, 0x1b), 0x59, ...push(5)], [5]],
  ["functions and loops", [...push(0), 0x2c, ...push(1), 0x60, 0x2d, ...push(10, 3, 0), 0x2a, ...push(0), 0x2b], [14]],
  ["jumps", [...push(3), 0x1c, ...push(9).slice(0, 2), ...push(6)], [6]],
  ["storage and control values", [...push(1, 42), 0x42, ...push(1), 0x43, ...push(0), 0x45], [42, 70]],
  [
    "rounding",
    [...push(100), 0x68, 0x7d, ...push(100), 0x68, 0x7c, ...push(65), 0x68, 0x7a, ...push(65), 0x68],
    [128, 64, 128, 65],
  ],
  ["the version and what it can", [...push(1), 0x88, 0xb8, 0x10, 0x40, 0x88], [40, (1 << 13) | (1 << 19)]],
  ["comparisons", [...push(1, 2), 0x50, ...push(1, 2), 0x53, ...push(3, 4), 0x8b, ...push(3, 4), 0x8c], [1, 0, 4, 3]],
] as const)("%s", ([, code, stack]) => {
  expect(run(...code).stack).toEqual(stack);
});

test("rounding never crosses zero and is symmetric", () => {
  for (const rounding of ["grid", "half", "double", "down", "up", generalRounding(0x48, 64)] as const) {
    for (let distance = 0; distance < 200; distance++) {
      expect(roundBy(rounding, distance)).toBeGreaterThanOrEqual(0);
      expect(roundBy(rounding, -distance) + roundBy(rounding, distance)).toBe(
        distance === 0 ? 2 * roundBy(rounding, 0) : 0,
      );
    }
  }
  expect(["grid", "half", "double", "down", "up"].map((one) => roundBy(one as "grid", 70))).toEqual([
    64, 96, 64, 64, 128,
  ]);
  expect(unit(3, 4)).toEqual({ x: 9830, y: 13107 });
});

test("moves along y count, moves along x are ignored", () => {
  const { glyph } = run(0x00, ...push(1), 0x2f, 0x01, ...push(2), 0x2f);
  expect([...glyph.y].slice(0, 4)).toEqual([0, 128, 130, 0]);
  expect([...glyph.x].slice(0, 4)).toEqual([0, 0, 100, 100]);
  expect([...glyph.touchedX].slice(0, 4)).toEqual([0, 0, 1, 0]);
});

test("relative moves keep rounded distances, no less than the least", () => {
  // MDAP 0, MDRP 1 rounded and no less than a pixel; MIRP 2 to control value 1 (200, beyond the cut-in of 130).
  const { glyph, state } = run(0x00, ...push(0), 0x2f, ...push(1), 0xdc, ...push(0), 0x10, ...push(2, 1), 0xec);
  expect(glyph.y[1]).toBe(128);
  expect(glyph.y[2]).toBe(128);
  expect(state.rp).toEqual([0, 0, 2]);
});

test("untouched points follow those around them", () => {
  const { glyph } = run(0x00, ...push(0), 0x2f, ...push(2), 0x2f, 0x30);
  expect([...glyph.y].slice(0, 4)).toEqual([0, Math.round((100 * 128) / 130), 128, 0]);
});

test("after both interpolations nothing moves; deltas need a touched point", () => {
  const delta = [...push(0x7f, 1, 1), 0x5d]; // point 1, at 9 + 7 pixels an em, the largest step up
  expect(run(0x00, ...delta).glyph.y[1]).toBe(100);
  expect(run(0x00, ...push(1), 0x2f, ...delta).glyph.y[1]).toBe(128 + 64);
  expect(run(0x00, ...push(1), 0x2f, 0x30, 0x31, ...delta).glyph.y[1]).toBe(128);
});

/** Runs `body` 1,000 times: a counter on the stack that JROT looks at. */
function thousandTimes(body: readonly number[]): number[] {
  const word = (value: number): number[] => [0xb8, (value >> 8) & 0xff, value & 0xff];
  const turn = [...body, ...push(1), 0x61, 0x20];
  return [...word(1000), ...turn, ...word(-turn.length - 4), 0x23, 0x78];
}

test("code that is only stepped over counts as work: a loop over much of it is stopped", () => {
  expect(run(...thousandTimes([])).stack).toEqual([0]);
  const idle = Array<number>(16_000).fill(0x4f);
  expect(() => run(...thousandTimes([...push(0), 0x58, ...idle, 0x59]))).toThrow("steps");
  expect(() => run(...thousandTimes([...push(0), 0x2c, ...idle, 0x2d]))).toThrow("steps");
});

test.for([
  ["an empty stack", [0x60]],
  ["a division by zero", [...push(1, 0), 0x62]],
  ["a point that is not there", [...push(99), 0x2f]],
  ["an unknown instruction", [0x8f]],
  ["a function that is not there", [...push(9), 0x2b]],
  ["a jump out", [0xb8, 0x80, 0x00, 0x1c]],
  ["a cut push", [0x40, 9, 1]],
  ["a zone that is not there", [...push(2), 0x13]],
  ["endless recursion", [...push(0), 0x2c, ...push(0), 0x2b, 0x2d, ...push(0), 0x2b]],
  ["an endless loop", [0xb8, 0xff, 0xfd, 0x1c]],
] as const)("%s stops the program", ([, code]) => {
  expect(() => run(...code)).toThrow(HintingError);
});
