/** Vision targets: what the tower sees in a strip, one vector a latent. */
import type { Grid, ImageProcessor, PixelValues, VisionLanguageModel } from "@rot/models";
import { ShapeError, tensor, untaped } from "@rot/tensor";
import type { Renderer, Strip } from "../../render/strip.ts";
import { exactPixelValues, referencePixelValues } from "../../render/vision.ts";
import type { Encoding } from "../preprocess/collect.ts";
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
  /** Patches in one call of the tower at most, of several strips together or a part of one; 4,096 by default. */
  readonly batch?: number;
  /** Where targets are looked up and kept, and the key of the tower that makes them: see `towerKey`. */
  readonly cache?: { readonly store: TargetStore; readonly tower: string };
}

/** A picture on its way through the tower, and whose part it is. */
interface Piece {
  readonly owner: number;
  readonly pixels: Float32Array;
  readonly grid: Grid;
  readonly patches: number;
}

/**
 * The targets of some chains, in their order. Chains in the cache cost no call of the tower; of the others several go into one.
 *
 * How matrices are multiplied depends on their size, so the last bits of a target depend on what else was in its call. What
 * the cache gives is what was put there, bit for bit; a `batch` of 1 makes every piece alone, always with the same bits.
 *
 * @throws {ImageError} when a strip is too wide for the reference's encoding
 * @throws {UsageError} when a chain is too long to be drawn
 */
export async function computeTargets(
  model: VisionLanguageModel,
  renderer: Renderer,
  texts: readonly string[],
  options: TargetOptions,
): Promise<Targets[]> {
  const { processor, encoding = "exact", batch = 4096, cache } = options;
  const targets: (Targets | undefined)[] = [];
  const keys: string[] = [];
  const parts: Float32Array[][] = texts.map(() => []);
  let call: Piece[] = [];
  let patches = 0;
  const look = async (): Promise<void> => {
    const features = await tower(model, call);
    let at = 0;
    for (const piece of call) {
      const end = at + (piece.patches / processor.config.mergeSize ** 2) * model.width;
      parts[piece.owner]!.push(features.subarray(at, end));
      at = end;
    }
    if (at !== features.length) {
      throw new ShapeError(`the tower gave ${features.length} values where its ${call.length} grids make ${at}`);
    }
    [call, patches] = [[], 0];
  };
  for (const [owner, text] of texts.entries()) {
    const strip = renderer.strip(text);
    if (cache) {
      const key = await targetKey(strip, { tower: cache.tower, encoding, processor: processor.config });
      keys.push(key);
      targets[owner] = await cache.store.get(key);
    }
    if (targets[owner]) continue;
    for (const piece of cut(encode(strip, encoding, processor), owner)) {
      if (call.length > 0 && patches + piece.patches > batch) await look();
      call.push(piece);
      patches += piece.patches;
    }
  }
  if (call.length > 0) await look();
  const all: Targets[] = [];
  for (const owner of texts.keys()) {
    const found = targets[owner];
    const made = found ?? join(parts[owner]!, model.width);
    all.push(found || !cache ? made : await cache.store.put(keys[owner]!, made));
  }
  return all;
}

function encode(strip: Strip, encoding: Encoding, processor: ImageProcessor): PixelValues {
  return encoding === "exact" ? exactPixelValues(strip, processor.config) : referencePixelValues(strip, processor);
}

function cut({ pixelValues, patchLength, imageGridThw }: PixelValues, owner: number): Piece[] {
  let at = 0;
  return imageGridThw.map((grid) => {
    const patches = grid[0] * grid[1] * grid[2];
    const pixels = pixelValues.subarray(at, (at += patches * patchLength));
    return { owner, pixels, grid, patches };
  });
}

async function tower(model: VisionLanguageModel, call: readonly Piece[]): Promise<Float32Array> {
  const patches = call.reduce((sum, piece) => sum + piece.patches, 0);
  const patchLength = call[0]!.pixels.length / call[0]!.patches;
  const packed = new Float32Array(patches * patchLength);
  let at = 0;
  for (const { pixels } of call) {
    packed.set(pixels, at);
    at += pixels.length;
  }
  using pixels = tensor(model.device, packed, { shape: [patches, patchLength] });
  const { tokens, deepstack } = untaped(() =>
    model.imageFeatures(
      pixels,
      call.map(({ grid }) => grid),
    ),
  );
  for (const layer of deepstack) layer.dispose();
  using wide = tokens.to("f32");
  if (wide !== tokens) tokens.dispose();
  return (await wide.read()) as Float32Array;
}

function join(parts: readonly Float32Array[], columns: number): Targets {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return { rows: data.length / columns, columns, data };
}
