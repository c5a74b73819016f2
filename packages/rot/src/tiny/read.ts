/** What the base of a tiny model reads in latents, as it was taught to read strips. */
import { buildModel, type Pretrained } from "@rot/models";
import type { Tensor } from "@rot/tensor";
import { readThought, writeAnswers } from "../methods/rot/generate.ts";
import { STEPS, STRIDE } from "./problems.ts";
import { decode, marks } from "./vocabulary.ts";

/**
 * Gives latents to the base as if they were a strip, in the mode in which it writes strips down. Adapters are left out: they
 * have not learnt to read.
 *
 * @param latents  [T, D]
 * @returns        what stands in each; null where there are more than the base has ever read, or none
 */
export async function readLatents(pretrained: Pretrained, latents: Tensor): Promise<readonly string[] | null> {
  const count = latents.shape[0] as number;
  if (count === 0 || count > STEPS) return null;
  const { model } = buildModel(pretrained, pretrained.weights, pretrained.model.device);
  const prompt = Int32Array.of(marks.read, marks.begin);
  const { cache, last } = readThought(model, [prompt], [latents], { begin: marks.begin, end: marks.done });
  try {
    const [said] = await writeAnswers(model, { cache, last }, { maxNewTokens: STRIDE * count, stop: [marks.end] });
    const text = decode(said?.ids ?? []);
    return Array.from({ length: count }, (_, t) => text.slice(STRIDE * t, STRIDE * t + 1));
  } finally {
    cache.dispose();
    last.dispose();
  }
}
