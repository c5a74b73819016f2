/** How much room the checkpoints of a run take. */
import { expect, test } from "vitest";
import { mostCheckpoints } from "./checkpoint-room.ts";

const keep = (every: number, last: number, keepEvery: number | null) => ({
  every,
  keep_last: last,
  keep_every: keepEvery,
});

test("the latest, the best, the newest before the oldest goes, and those that stay for good", () => {
  expect(mostCheckpoints(1000, keep(100, 3, null))).toBe(5);
  expect(mostCheckpoints(10_000, keep(100, 3, 1000))).toBe(15);
  // Steps 300, 600 and 900 are written and divided by 150.
  expect(mostCheckpoints(1000, keep(100, 1, 150))).toBe(6);
});
