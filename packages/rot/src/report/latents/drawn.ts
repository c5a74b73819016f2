/** Latents beside what they were to become: the chain of thought, drawn and seen by the tower as in training. */
import type { ImageProcessor, VisionLanguageModel } from "@rot/models";
import { computeTargets } from "../../data/target-cache/targets.ts";
import type { Renderer, Strip } from "../../render/strip.ts";
import type { Encoding } from "../../render/vision.ts";

/** The cell of a drawn chain that the tower sees most nearly as a latent. */
export interface NearestCell {
  /** From 0. */
  readonly cell: number;
  readonly cosine: number;
  /** The cosine to the cell in the latent's own place; null where the chain has fewer. */
  readonly inPlace: number | null;
  /** What stands in the cell; null where cells are no columns of the strip: it is resized, or higher than they are. */
  readonly picture: Strip | null;
}

/** How a chain is drawn and encoded; a checkpoint says it of its training. */
export interface Drawing {
  readonly renderer: Renderer;
  readonly processor: ImageProcessor;
  readonly encoding: Encoding;
}

/**
 * For each latent the cell of the drawn chain that has the least angle to it.
 *
 * @param latents  [D] each
 * @throws {ImageError} when the strip is too wide for the reference's encoding
 * @throws {UsageError} when the chain is too long to be drawn
 */
export async function nearestCells(
  model: VisionLanguageModel,
  { renderer, processor, encoding }: Drawing,
  chain: string,
  latents: readonly Float32Array[],
): Promise<NearestCell[]> {
  const [targets] = await computeTargets(model, renderer, [chain], { processor, encoding });
  const { rows, columns, data } = targets as NonNullable<typeof targets>;
  const seen = Array.from({ length: rows }, (_, i) => data.subarray(i * columns, (i + 1) * columns));
  const strip = renderer.strip(chain);
  const side = processor.config.patchSize * processor.config.mergeSize;
  return latents.map((latent, t) => {
    const cosines = seen.map((cell) => cosine(latent, cell));
    const best = cosines.reduce((found, value, i) => (value > (cosines[found] as number) ? i : found), 0);
    return {
      cell: best,
      cosine: cosines[best] as number,
      inPlace: cosines[t] ?? null,
      picture: encoding === "exact" && strip.height <= side ? crop(strip, best * side, side) : null,
    };
  });
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.max(1e-30, Math.sqrt(aa * bb));
}

/** Columns of a strip; white where it has ended. */
function crop({ width, height, channels, data }: Strip, left: number, columns: number): Strip {
  const cut = new Uint8Array(columns * height * channels).fill(255);
  const kept = Math.max(0, Math.min(columns, width - left));
  for (let y = 0; y < height; y++) {
    const from = (y * width + left) * channels;
    cut.set(data.subarray(from, from + kept * channels), y * columns * channels);
  }
  return { width: columns, height, channels, data: cut, missing: 0 };
}
