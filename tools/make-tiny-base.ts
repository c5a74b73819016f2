/**
 * Makes the base of the tiny model that comes with @rot/rot: some minutes on lavapipe with two cores. The same seed on the
 * same adapter gives the same bytes; whose they are, packages/rot/assets/README.md says.
 *
 *     npx tsx --conditions=@rot/source tools/make-tiny-base.ts [SEED] [FOLDER]
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeBase, shippedBase } from "@rot/rot/node";
import { openDevice } from "@rot/tensor";

const [seed = "0", folder = shippedBase] = process.argv.slice(2);
const say = (line: string): unknown => process.stderr.write(`${line}\n`);

// What the tuner has found on this machine would change the last bits.
using device = await openDevice({ tune: "off" });
const score = await makeBase(folder, {
  device,
  seed: Number(seed),
  onProgress({ stage, step, steps, losses, secondsLeft }) {
    if (step % 50 !== 0) return;
    const parts = Object.entries(losses).map(([name, value]) => `${name} ${value.toFixed(4)}`);
    say(`${stage} ${step}/${steps} ${parts.join(" ")}, ${Math.round(secondsLeft)} s left`);
  },
  onValidation: ({ stage, step, accuracy }) => say(`${stage} ${step}: ${(100 * accuracy).toFixed(1)} % right`),
  onWarning: say,
});
const file = join(folder, "model.safetensors");
const sha256 = createHash("sha256")
  .update(await readFile(file))
  .digest("hex");
process.stdout.write(`${(100 * score.accuracy).toFixed(1)} % with its chain as text\n${sha256}  ${file}\n`);
