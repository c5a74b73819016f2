/** What evaluation needs of an opened checkpoint: its subject, and a measure of the chains it replaces. Node only. */
import { ImageError } from "@rot/models";
import { loadImageProcessor } from "@rot/models/node";
import { UsageError } from "@rot/tensor";
import type { LatentPolicy } from "../../bundle/config.ts";
import type { Bundle } from "../../bundle/node/open-bundle.ts";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { createRenderer } from "../../render/strip.ts";
import { latentGrid } from "../../render/vision.ts";
import type { Drawing } from "../../report/latents/drawn.ts";
import type { EvaluateOptions, Subject } from "../options.ts";

/**
 * A bundle as the subject of an evaluation.
 *
 * @param policy  in place of the bundle's own
 */
export function subjectOf(
  { pretrained, tokenizer, template, source, markers, config, stop }: Bundle,
  policy?: LatentPolicy,
): Subject {
  const own = policy ?? config.latents;
  return {
    model: pretrained.model,
    tokenizer,
    template,
    latents: source && markers && own ? { source, markers, policy: own } : null,
    chain: config.chain,
    stop,
  };
}

/**
 * How chains were drawn for a bundle's training.
 *
 * @throws {ImageError} when the base has no image processor
 */
export async function drawingOf({ config, base }: Pick<Bundle, "config" | "base">): Promise<Drawing> {
  const { encoding, ...drawing } = config.strips;
  const renderer = await createRenderer({ ...drawing, fonts: [await dejaVuSans()] });
  return { renderer, processor: await loadImageProcessor(base.path), encoding };
}

/**
 * Counts the text tokens of a chain, and the latents it becomes when it is drawn as it was for training.
 *
 * @throws {ImageError} when the base has no image processor
 */
export async function measureOf({ config, base, tokenizer }: Bundle): Promise<NonNullable<EvaluateOptions["measure"]>> {
  const { renderer, processor, encoding } = await drawingOf({ config, base });
  return (cot) => {
    try {
      const { tokens: latents } = latentGrid(renderer.strip(cot), encoding, processor);
      return { tokens: tokenizer.encode(cot).length, latents };
    } catch (error) {
      // A chain that is too long to be drawn, or too wide to be encoded, has no ratio.
      if (error instanceof UsageError || error instanceof ImageError) return null;
      throw error;
    }
  };
}
