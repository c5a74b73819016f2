/**
 * Makes the base of the tiny model that comes with @rot/rot: some minutes on lavapipe with two cores.
 *
 *     npx tsx --conditions=@rot/source tools/make-tiny-base.ts [SEED]
 */
import { makeBase, shippedBase } from "@rot/rot/node";
import { openDevice } from "@rot/tensor";

using device = await openDevice();
const score = await makeBase(shippedBase, {
  device,
  seed: Number(process.argv[2] ?? 0),
  onProgress({ stage, step, steps, losses, secondsLeft }) {
    if (step % 50 !== 0) return;
    const parts = Object.entries(losses).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    process.stderr.write(`${stage} ${step}/${steps} ${parts.join(" ")}, ${Math.round(secondsLeft)} s left\n`);
  },
});
process.stdout.write(`${shippedBase}: ${(100 * score.accuracy).toFixed(1)} % with its chain as text\n`);
