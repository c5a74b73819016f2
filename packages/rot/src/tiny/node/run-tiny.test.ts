import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { expect, test } from "@rot/tensor/testing";
import type { TinyPlan } from "../plan.ts";
import { trainTiny } from "./run-tiny.ts";

test("it says what it will do, keeps to that when it goes on, and ends when it is told", async ({ device }) => {
  const folder = await mkdtemp(join(tmpdir(), "rot-tiny-"));
  try {
    const plans: TinyPlan[] = [];
    const options = { device, folder, onPlan: (plan: TinyPlan) => plans.push(plan) };
    // No time at all: only what must be.
    const stopped = await trainTiny({ ...options, budget: 0, signal: AbortSignal.abort() });
    expect(stopped).toMatchObject({ end: "stopped", rows: [], stages: [] });
    expect(plans[0]).toMatchObject({ base: "shipped", arms: ["chain", "rot"] });
    expect(plans[0]?.leftOut).toHaveLength(3);

    const again = await trainTiny({ ...options, resume: true, signal: AbortSignal.abort() });
    expect(again.end).toBe("stopped");
    expect(plans[1]).toMatchObject({ base: "shipped", arms: ["chain", "rot"] });

    await writeFile(join(folder, "plan.json"), '{"base":"none"}');
    await expect(trainTiny({ ...options, resume: true })).rejects.toThrow(/plan\.json is damaged/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("whoever wants to act after a step is waited for, from the first step that measures the machine", async ({
  device,
}) => {
  const stop = new AbortController();
  const [measured, trained] = [7, 1];
  let steps = 0;
  const afterStep = async (): Promise<void> => {
    const before = device.dispatchCount;
    await setTimeout(50);
    expect(device.dispatchCount).toBe(before);
    if (++steps === measured + trained) stop.abort();
  };
  const { end } = await trainTiny({ device, arms: ["chain"], budget: 1e6, signal: stop.signal, afterStep });
  expect({ end, steps }).toEqual({ end: "stopped", steps: measured + trained });
});

test("the base alone is evaluated without any training", async ({ device }) => {
  const { end, rows, stages, problems } = await trainTiny({ device, base: "shipped", arms: ["chain"] });
  expect({ end, stages, problems }).toEqual({ end: "finished", stages: [], problems: 500 });
  expect(rows).toHaveLength(1);
  expect(rows[0]?.accuracy).toBeGreaterThanOrEqual(0.95);
});
