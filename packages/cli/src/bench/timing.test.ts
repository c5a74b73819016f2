import { expect, test } from "vitest";
import { type Contestant, interleave, median, onDevice, quantile } from "./timing.ts";

/** A contestant on a clock of its own, that writes down when it was asked. */
const fake = (name: string, milliseconds: number, log: string[] = []): Contestant => ({
  async time(repeats) {
    log.push(`${name} ${repeats}`);
    return repeats * milliseconds;
  },
});

test("contestants take turns, after two runs that do not count", async () => {
  const log: string[] = [];
  const [a, b] = [fake("a", 30, log), fake("b", 8, log)];
  const results = await interleave([a, b], { rounds: 3 });
  expect(log).toEqual(["a 1", "a 1", "b 1", "b 1", "a 1", "b 3", "a 1", "b 3", "a 1", "b 3"]);
  expect(results.get(a)).toEqual([30, 30, 30]);
  expect(results.get(b)).toEqual([8, 8, 8]);
});

test("a slow contestant stops early, but not before it has a spread", async () => {
  const [slow, fast] = [fake("slow", 900), fake("fast", 20)];
  const results = await interleave([slow, fast], { rounds: 7, budget: 1000 });
  expect(results.get(slow)).toHaveLength(3);
  expect(results.get(fast)).toHaveLength(7);
});

test("a contestant that fails is out, and the others go on", async () => {
  const broken: Contestant = { time: () => Promise.reject(new Error("no adapter")) };
  const good = fake("good", 20);
  const results = await interleave([broken, good], { rounds: 3 });
  expect(results.get(broken)).toEqual(new Error("no adapter"));
  expect(results.get(good)).toHaveLength(3);
});

test("a run on the device is timed from the end of what came before to the end of its own work", async () => {
  let clock = 0;
  const pending: number[] = [50];
  const device = {
    async sync() {
      for (const work of pending.splice(0)) clock += work;
    },
  };
  const run = (): void => void pending.push(7);
  expect(await onDevice(device, { run }, () => clock).time(3)).toBe(21);
});

test("a run that waits is awaited before the next begins", async () => {
  let running = 0;
  const runAndWait = async (): Promise<void> => {
    expect(running++).toBe(0);
    await Promise.resolve();
    running--;
  };
  await onDevice({ sync: async () => {} }, { runAndWait }).time(3);
  expect(running).toBe(0);
});

test("quantiles lie between their neighbours", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(quantile([5, 1, 3, 2, 4], 0.25)).toBe(2);
  expect(quantile([1, 2], 0.75)).toBe(1.75);
  expect(quantile([], 0.5)).toBeNaN();
});
