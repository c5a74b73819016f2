/**
 * Prompts into a cache: what generation and roll-outs begin with.
 *
 * Axes: B sequences · L tokens of the longest prompt · D model width
 */
import { concat, keep, scope, tensor, type Tensor, untaped, UsageError } from "@rot/tensor";
import type { PixelValues } from "../image-processor/image-processor.ts";
import type { KvCache, KvCacheOptions, Span } from "../kv-cache.ts";
import type { VisionLanguageModel } from "../vision-language-model.ts";
import { ContextError } from "./error.ts";

/** A prompt as a model takes it. */
export interface Prompt {
  /** Token ids; each image has as many image tokens as it becomes. */
  readonly ids: ArrayLike<number>;
  /** The images of the prompt, in order. */
  readonly images?: PixelValues | undefined;
}

/** Sequences in a cache, and where each of them goes on from. */
export interface Prefilled {
  readonly cache: KvCache;
  /** [B, D], the hidden state of the last token of each. */
  readonly last: Tensor;
}

/**
 * Reads prompts of unequal length, all at once. Nothing is taped.
 *
 * @param options.room  tokens that will follow, for which memory is set aside at once; the cache grows beyond them
 * @returns  a cache and the last hidden states, in no scope: both are the caller's to dispose
 * @throws {UsageError} when there is no prompt, or an empty one
 * @throws {ContextError} when a prompt leaves no room for a token after it
 * @throws {ShapeError} when an id is none of the vocabulary, or image tokens and images do not match
 */
export function prefill(
  model: VisionLanguageModel,
  prompts: readonly Prompt[],
  { room = 0, ...cacheOptions }: { readonly room?: number } & KvCacheOptions = {},
): Prefilled {
  if (prompts.length === 0) throw new UsageError("prefill: there is no prompt");
  const lengths = prompts.map(({ ids }) => ids.length);
  for (const [b, length] of lengths.entries()) {
    if (length === 0) throw new UsageError(`prefill: prompt ${b} is empty`);
    checkContext(model, length, prompts.length > 1 ? `prompt ${b}` : "the prompt");
  }
  const L = Math.max(...lengths);
  const ids = new Int32Array(prompts.length * L);
  for (const [b, prompt] of prompts.entries()) ids.set(prompt.ids, b * L);
  const valid = lengths.map((length): Span => [0, length]);
  const images = prompts.flatMap(({ images: own }) => (own && own.imageGridThw.length > 0 ? [own] : []));
  const grids = images.flatMap(({ imageGridThw }) => imageGridThw);
  const rows = lengths.map((_, b) => ids.subarray(b * L, (b + 1) * L));
  const { positions, imageRows } = model.layOut(rows, grids, valid);
  const capacity = Math.min(L + room, model.maxPositions);
  const cache = model.newCache(prompts.length, { capacity, ...cacheOptions });
  try {
    const last = untaped(() =>
      scope(() => {
        const features = grids.length > 0 && model.imageFeatures(pixelsOf(model, images), grids);
        return model.forward(model.embed(ids).reshape(lengths.length, L, model.width), {
          cache,
          valid,
          positions,
          rows: Int32Array.from(lengths, (length, b) => b * L + length - 1),
          ...(features && { images: { ...features, rows: imageRows } }),
        });
      }),
    );
    return { cache, last: keep(last) };
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** @throws {ContextError} when a prompt of so many tokens leaves no room for one after it */
export function checkContext({ maxPositions }: { readonly maxPositions: number }, length: number, who: string): void {
  if (length < maxPositions) return;
  throw new ContextError(
    `${who} has ${length} tokens; the model's context of ${maxPositions} leaves no room for an answer: shorten it, or use fewer or smaller images`,
  );
}

/** [P, values of a patch], all images one after the other. */
const pixelsOf = ({ device }: VisionLanguageModel, images: readonly PixelValues[]): Tensor =>
  concat(
    images.map(({ pixelValues, patchLength }) =>
      tensor(device, pixelValues, { shape: [pixelValues.length / patchLength, patchLength] }),
    ),
  );
