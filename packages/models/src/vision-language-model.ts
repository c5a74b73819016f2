/**
 * What the methods and the generator ask of a vision-language model. Every model of this package is one of these.
 *
 * Axes: B sequences · L tokens in this call · D model width · V vocabulary · N image tokens · P patches
 */
import type { AttentionRule } from "@rot/kernels";
import type { Device, Indices, Tensor } from "@rot/tensor";
import type { KvCache, KvCacheOptions, Span } from "./kv-cache.ts";

/** Frames, rows and columns of an image in patches: a row of `image_grid_thw`. */
export type Grid = readonly [frames: number, rows: number, columns: number];

/** Called with what a model computes on its way, under the checkpoint's names. Read or alias it at once: it is freed soon. */
export type Observe = (name: string, value: Tensor) => void;

/** Images as the decoder takes them, all images of a call one after the other. */
export interface ImageFeatures {
  /** [N, D], what stands in place of the image tokens. */
  readonly tokens: Tensor;
  /** Each [N, D]: number i is added to the output of decoder layer i at the image tokens. Empty for models without. */
  readonly deepstack: readonly Tensor[];
}

/** Where the tokens of a batch stand. */
export interface Layout {
  /** [3, B, L] as one array: time, height and width of each token. Models with one axis read the first row. */
  readonly positions: Int32Array;
  /** Rows b · L + l of the image tokens, in the order of the grids. */
  readonly imageRows: Int32Array;
}

/** What {@link VisionLanguageModel.forward} takes besides the embeddings. */
export interface ForwardOptions {
  /** Earlier tokens, which these follow and are added to. Only for work that is off the tape. */
  readonly cache?: KvCache;
  /** Which rows of each sequence hold tokens; by default all. Left- and right-padded batches, and sequences that rest. */
  readonly valid?: readonly Span[];
  /** [3, B, L] as one array; by default every sequence counts on from its own past, or from 0. */
  readonly positions?: Int32Array;
  /** i32 [B or 1, L, 2]: the keys each query sees, in place of the causal rule. Without a cache they are the rows themselves. */
  readonly visible?: Tensor;
  /** Biases by spans of rows and of keys, on top of what a query sees. */
  readonly rules?: readonly AttentionRule[];
  /** What stands at some rows b · L + l in place of their embeddings. */
  readonly images?: ImageFeatures & { readonly rows: Int32Array };
  /** Rows b · L + l whose hidden state is wanted; by default all. */
  readonly rows?: Int32Array;
  /** Keep only each block's input for the way back, and compute the rest again: memory for time. */
  readonly recompute?: boolean;
  readonly observe?: Observe;
}

export interface VisionLanguageModel {
  readonly device: Device;
  /** D. */
  readonly width: number;
  /** V. */
  readonly vocabulary: number;
  /** The longest context the model was made for, in tokens. */
  readonly maxPositions: number;
  /** [V, D], the output matrix, for `linearCrossEntropy`. */
  readonly head: Tensor;

  /**
   * Token embeddings.
   *
   * @param ids  of any shape
   * @returns    [...ids.shape, D], f32
   * @throws {ShapeError} when an id on the host is none of the vocabulary
   */
  embed(ids: Indices): Tensor;

  /**
   * The vision tower. Images of any sizes are packed; none sees another.
   *
   * @param pixels  [P, values of a patch], as the image processor makes them
   * @param grids   one for each image
   * @throws {ShapeError} when the patches are not those of the grids
   */
  imageFeatures(
    pixels: Tensor,
    grids: readonly Grid[],
    options?: Pick<ForwardOptions, "recompute" | "observe">,
  ): ImageFeatures;

  /**
   * The positions of tokens and images, and where the images stand.
   *
   * @param ids    one array for each sequence, all of one length
   * @param grids  one for each image, in the order of the batch
   * @param valid  which part of each sequence is not padding; by default all
   * @throws {ShapeError} when sequences differ in length, or image tokens and grids do not match
   */
  layOut(ids: readonly ArrayLike<number>[], grids: readonly Grid[], valid?: readonly Span[]): Layout;

  /**
   * The decoder, from embeddings to hidden states after the final norm.
   *
   * @param embeddings  [B, L, D]
   * @returns           [B, L, D], or with `rows` [rows, D]; what stands at padding means nothing
   * @throws {ShapeError} when an option does not fit the embeddings
   * @throws {UsageError} when the cache is full, or a gradient would have to flow through it
   */
  forward(embeddings: Tensor, options?: ForwardOptions): Tensor;

  /**
   * Scores of the whole vocabulary, for a few rows: training uses `linearCrossEntropy` with {@link head} instead.
   *
   * @param hidden  [..., D], after the final norm
   * @returns       [..., V], f32
   */
  logits(hidden: Tensor): Tensor;

  /** An empty cache for so many sequences. */
  newCache(sequences: number, options?: KvCacheOptions): KvCache;
}
