/** Vision targets: what the tower sees in a strip, one vector a latent. */
import type { Grid, ImageProcessor, VisionLanguageModel } from "@rot/models";
import { tensor, type Tensor, untaped } from "@rot/tensor";
import type { Renderer, Strip } from "../../render/strip.ts";
import { type Encoding, pixelValuesOf } from "../../render/vision.ts";
import { targetKey } from "./key.ts";

/** Targets of one strip. */
export interface Targets {
  /** Latents. */
  readonly rows: number;
  /** Width of the model. */
  readonly columns: number;
  /** [rows, columns]. */
  readonly data: Float32Array;
}

/** Keeps targets by key. What `put` returns is what `get` will: it may keep fewer bits. */
export interface TargetStore {
  get(key: string): Promise<Targets | undefined>;
  put(key: string, targets: Targets): Promise<Targets>;
}

/** How targets are made. */
export interface TargetOptions {
  readonly processor: ImageProcessor;
  /** `exact` by default. */
  readonly encoding?: Encoding;
  /** Where targets are looked up and kept, and the key of the tower that makes them: see `towerKey`. */
  readonly cache?: { readonly store: TargetStore; readonly tower: string };
}

/**
 * The targets of some chains, in their order. Chains in the cache cost no call of the tower.
 *
 * How matrices are multiplied depends on their size, and so the last bits of a target on what else is in its call. Every
 * piece of a strip has a call of its own, so that a chain always has the same targets, cached or not.
 *
 * @throws {ImageError} when a strip is too wide for the reference's encoding
 * @throws {UsageError} when a chain is too long to be drawn
 */
export async function computeTargets(
  model: VisionLanguageModel,
  renderer: Renderer,
  texts: readonly string[],
  { processor, encoding = "exact", cache }: TargetOptions,
): Promise<Targets[]> {
  const see = (strip: Strip): Promise<Targets> => targetsOf(model, strip, encoding, processor);
  const all: Targets[] = [];
  for (const text of texts) {
    const strip = renderer.strip(text);
    if (!cache) {
      all.push(await see(strip));
      continue;
    }
    const key = await targetKey(strip, { tower: cache.tower, encoding, processor: processor.config });
    all.push((await cache.store.get(key)) ?? (await cache.store.put(key, await see(strip))));
  }
  return all;
}

async function targetsOf(
  model: VisionLanguageModel,
  strip: Strip,
  encoding: Encoding,
  processor: ImageProcessor,
): Promise<Targets> {
  const { pixelValues, patchLength, imageGridThw } = pixelValuesOf(strip, encoding, processor);
  const parts: Float32Array[] = [];
  let at = 0;
  for (const grid of imageGridThw) {
    const patches = grid[0] * grid[1] * grid[2];
    const values = pixelValues.subarray(at, (at += patches * patchLength));
    using pixels = tensor(model.device, values, { shape: [patches, patchLength] });
    parts.push(await features(model, pixels, grid));
  }
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let begin = 0;
  for (const part of parts) {
    data.set(part, begin);
    begin += part.length;
  }
  return { rows: data.length / model.width, columns: model.width, data };
}

/** What the tower sees in one picture, [latents, width] on the host. */
async function features(model: VisionLanguageModel, pixels: Tensor, grid: Grid): Promise<Float32Array> {
  const { tokens, deepstack } = untaped(() => model.imageFeatures(pixels, [grid]));
  for (const layer of deepstack) layer.dispose();
  using wide = tokens.to("f32");
  if (wide !== tokens) tokens.dispose();
  return (await wide.read()) as Float32Array;
}
