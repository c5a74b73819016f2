/** A program on a device that computes nothing: it asks for the same memory as on one that does. */
import { expect, test } from "vitest";
import {
  AdamW,
  type Device,
  grad,
  keep,
  matmul,
  openDevice,
  openRehearsal,
  randn,
  requireGrad,
  scope,
} from "../index.ts";

const options = { tune: "off", notice: (): void => {} } as const;

/** Two layers of weights, one of them frozen, trained for some steps; `between` is called after each. */
async function train(device: Device, steps: number, between: () => void = () => {}): Promise<number> {
  const weights = [1, 2].map((seed) => keep(randn(device, [96, 96], { seed })));
  const learns = requireGrad(weights[0]!);
  const optimizer = new AdamW([learns], { lr: 1e-2 });
  let loss = 0;
  between();
  for (let step = 0; step < steps; step++) {
    const rows = 16 * (step + 1);
    const made = scope(() => {
      const x = randn(device, [rows, 96], { seed: step });
      const y = matmul(matmul(x, learns).silu(), weights[1]!).square().mean();
      return { y, gradients: grad(y, [learns]) };
    });
    loss = await made.y.item();
    optimizer.step(made.gradients);
    for (const tensor of [made.y, ...made.gradients]) tensor.dispose();
    between();
  }
  await device.sync();
  optimizer.dispose();
  for (const weight of weights) weight.dispose();
  return loss;
}

test("the peak is that of the device, and what is read is zeros", async () => {
  using device = await openDevice(options);
  using rehearsal = await openRehearsal(options);
  const [loss, nothing] = [await train(device, 3), await train(rehearsal, 3)];
  expect(loss).toBeGreaterThan(0);
  expect(nothing).toBe(0);
  expect(rehearsal.peak.bytes).toBe(device.memory().peak);
  expect(rehearsal.memory()).toEqual(device.memory());
  expect(rehearsal.name).toBe(device.name);
  expect(rehearsal.limits).toEqual(device.limits);
  expect([rehearsal.computes, device.computes]).toEqual([false, true]);
  expect(rehearsal.allocated.peak).toBeGreaterThanOrEqual(rehearsal.peak.bytes);
});

test("a peak is looked for from mark to mark, and knows what stood, and what the tape held", async () => {
  using rehearsal = await openRehearsal(options);
  const peaks: (typeof rehearsal.peak)[] = [];
  await train(rehearsal, 3, () => {
    peaks.push(rehearsal.peak);
    rehearsal.mark();
  });
  const matrix = 4 * 96 * 96;
  const [, first, second, third] = peaks as [unknown, ...typeof peaks];
  expect(first?.standing).toBe(2 * matrix);
  // With the moments.
  expect([second?.standing, third?.standing]).toEqual([4 * matrix, 4 * matrix]);
  // x for the gradient of the first product, its result for that of silu; more rows are more.
  expect(second!.saved).toBeGreaterThanOrEqual(2 * 4 * 32 * 96);
  expect(third!.saved).toBeCloseTo(1.5 * second!.saved, -2);
});

test("a model that no machine holds is rehearsed in no memory; a buffer that the adapter cannot make is refused", async () => {
  using rehearsal = await openRehearsal({ ...options, limits: { maxBufferSize: 2 ** 30 } });
  const before = process.memoryUsage().rss;
  const tensors = Array.from({ length: 1000 }, () => keep(randn(rehearsal, [2 ** 14, 2 ** 14], { seed: 0 })));
  expect(rehearsal.memory().live).toBe(1000 * 2 ** 30);
  expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 28);
  for (const tensor of tensors) tensor.dispose();
  rehearsal.trim();
  expect(rehearsal.allocated.bytes).toBeLessThan(2 ** 20);
  expect(() => randn(rehearsal, [2 ** 14, 2 ** 14 + 1], { seed: 0 })).toThrow(/the largest buffer of this adapter/);
});
