import { Random } from "@rot/tensor/cases";
import type { Device } from "@rot/tensor";
import { expect, test } from "vitest";
import { StopStrings } from "./stop-strings.ts";

/** Cuts a text into pieces of 0 to 3 characters. */
function pieces(text: string, random: Random): string[] {
  const cut: string[] = [];
  for (let at = 0; at < text.length;) {
    const length = random.integer(0, 4);
    cut.push(text.slice(at, at + length));
    at += length;
  }
  return cut;
}

test("pieces of any size give the text before the first stop string", () => {
  const random = new Random(undefined as unknown as Device, 3);
  const word = (most: number): string =>
    Array.from({ length: random.integer(1, most) }, () => "ab"[random.integer(0, 2)]).join("");
  let stopped = 0;
  for (let i = 0; i < 3000; i++) {
    const stops = Array.from({ length: random.integer(0, 4) }, () => word(6));
    const text = word(14);
    const filter = new StopStrings(stops);
    let got = "";
    // The first stop string to be complete ends the text, and the longest of several.
    const found = stops.flatMap((stop) => {
      const at = text.indexOf(stop);
      return at < 0 ? [] : [[at + stop.length, at] as const];
    });
    const [first] = found.toSorted(([endA, a], [endB, b]) => endA - endB || a - b);
    for (const piece of pieces(text, random)) got += filter.push(piece);
    expect(filter.isStopped).toBe(first !== undefined);
    got += filter.end();
    expect(got).toBe(first ? text.slice(0, first[1]) : text);
    if (first) stopped++;
  }
  expect(stopped).toBeGreaterThan(500);
});

test("only what may begin a stop string is held back", () => {
  const filter = new StopStrings(["\n\nQ:", "END", ""]);
  const seen = ["a", "\n", "\n", "b", "E", "N", "x", " \n\nQ", ":", "late"].map((piece) => filter.push(piece));
  expect(seen).toEqual(["a", "", "", "\n\nb", "", "", "ENx", " ", "", ""]);
  expect(filter.isStopped).toBe(true);
  expect(filter.end()).toBe("");
  const open = new StopStrings(["END"]);
  expect([open.push("the EN"), open.end(), open.isStopped]).toEqual(["the ", "EN", false]);
});
