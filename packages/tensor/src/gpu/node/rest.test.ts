import { expect, test } from "vitest";
import { rest } from "./rest.ts";

/** Turns that the event loop makes in some milliseconds. */
async function turns(milliseconds: number): Promise<number> {
  const end = performance.now() + milliseconds;
  let count = 0;
  while (performance.now() < end) {
    await new Promise((done) => setImmediate(done));
    count++;
  }
  return count;
}

test("while somebody waits, the thread sleeps between the turns of the event loop, which goes on", async () => {
  const wake = rest();
  const wakeOther = rest();
  await turns(20);
  const resting = await turns(40);
  wake();
  const stillResting = await turns(40);
  wakeOther();
  await turns(5);
  const awake = await turns(40);
  // Half a millisecond a turn is 80 turns; without sleep there are thousands.
  for (const few of [resting, stillResting]) {
    expect(few).toBeGreaterThan(1);
    expect(few).toBeLessThan(160);
  }
  expect(awake).toBeGreaterThan(3 * resting);
});

test("a short wait is hardly prolonged", async () => {
  const from = performance.now();
  const wake = rest();
  await turns(1);
  wake();
  await turns(1);
  expect(performance.now() - from).toBeLessThan(50);
});
