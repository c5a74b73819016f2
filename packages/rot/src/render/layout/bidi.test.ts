import { expect, test } from "vitest";
import { bidiLevels, visualRuns } from "./bidi.ts";

const points = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0)!);

/** The text as it is seen from left to right, every character on its own. */
function seen(text: string): string {
  const characters = Array.from(text);
  return visualRuns(bidiLevels(points(text)))
    .map(({ start, end, level }) => {
      const run = characters.slice(start, end);
      return (level % 2 ? run.reverse() : run).join("");
    })
    .join("");
}

test.for([
  ["plain text, 3 + 4", "plain text, 3 + 4"],
  ["", ""],
  ["שלום", "םולש"],
  ["abc שלום def", "abc םולש def"],
  ["abc אב גד def", "abc דג בא def"],
  ["אב abc גד", "דג abc בא"],
  ["אב 12 גד", "דג 12 בא"],
  ["אב 12", "12 בא"],
  ["אב 1,234.5 גד", "דג 1,234.5 בא"],
  ["אב 50% גד", "דג 50% בא"],
  ["אב +5 גד", "דג 5+ בא"],
  ["x = אב, 12", "x = 12 ,בא"],
  ["سلام ١٢ abc", "abc ١٢ مالس"],
  ["אב   ", "   בא"],
  ["<|x|>  אב  <|y|>", "<|x|>  בא  <|y|>"],
])("%j is seen as %j", ([text, expected]) => {
  expect(seen(text!)).toBe(expected);
});

test("a number in Arabic is an Arabic number, in Hebrew a European one", () => {
  expect([...bidiLevels(points("س 1+1"))].slice(2)).toEqual([2, 1, 2]);
  expect([...bidiLevels(points("א 1+1"))].slice(2)).toEqual([2, 2, 2]);
});

test("marks run with the letter before them", () => {
  expect([...bidiLevels(points("a\u0301 א\u05b0b"))]).toEqual([0, 0, 0, 1, 1, 0]);
});
