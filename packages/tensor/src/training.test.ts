import { mlp, toyPoints } from "../test/tools/mlp.ts";
import { collectGarbage } from "./gpu/node/collect.ts";
import { backward, grad } from "./grad.ts";
import { AdamW } from "./optim/adamw.ts";
import { clipGradNorm } from "./optim/clip-grad-norm.ts";
import { cosineWithWarmup } from "./optim/schedule.ts";
import { scope } from "./scope.ts";
import { expect, test } from "./testing.ts";
import type { Tensor } from "./tensor.ts";

/** Steps of the long run. */
const STEPS = 10_000;
/** Steps before the size of the process counts: by then pools are full and code is compiled. */
const WARM = 2000;

/** What of the process's memory is in use. */
function residentBytes(): number {
  collectGarbage();
  return process.memoryUsage().rss;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

test(
  `memory stays flat over ${STEPS} steps of training, and the loss goes to nothing`,
  { timeout: 300_000 },
  async ({ device }) => {
    const { x, y } = toyPoints(device);
    const network = mlp(device, 1);
    using optimizer = new AdamW(network.parameters, { lr: 1e-2, weightDecay: 1e-4 });
    const schedule = cosineWithWarmup({ warmup: 100, total: STEPS });
    const losses: number[] = [];
    const resident: number[] = [];
    let early = 0;
    for (let step = 1; step <= STEPS; step++) {
      optimizer.lr = 1e-2 * schedule(step - 1);
      const loss = scope(() => {
        const loss = network.loss(x, y);
        backward(loss);
        optimizer.step();
        optimizer.zeroGrad();
        return step % 100 === 0 ? loss : undefined;
      });
      if (!loss) continue;
      losses.push(await loss.item());
      loss.dispose();
      if (step === 100) early = device.memory().live;
      if (step > WARM) resident.push(residentBytes());
    }
    expect(device.memory().live).toBe(early);
    // The size of a process jumps by what V8 grants itself, so eighths of the run are compared.
    const part = resident.length >> 3;
    expect(median(resident.slice(-part)) / median(resident.slice(0, part))).toBeLessThan(1.05);
    expect(losses.at(-1)).toBeLessThan(1e-5);
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) / 1000);
  },
);

test("two runs with one seed have the same losses, bit for bit", async ({ device }) => {
  const run = async (): Promise<number[]> => {
    const { x, y } = toyPoints(device);
    const network = mlp(device, 5);
    using optimizer = new AdamW(network.parameters, { lr: 1e-2 });
    const losses: Tensor[] = [];
    for (let step = 0; step < 20; step++) {
      losses.push(
        scope(() => {
          const loss = network.loss(x, y);
          const gradients = grad(loss, network.parameters);
          clipGradNorm(gradients, 0.1);
          optimizer.step(gradients);
          return loss;
        }),
      );
    }
    return Promise.all(losses.map((loss) => loss.item()));
  };
  const [first, second] = [await run(), await run()];
  expect(second).toEqual(first);
  expect(first.at(-1)).toBeLessThan(first[0] as number);
});
