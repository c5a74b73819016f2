/**
 * Keys and values of earlier tokens, so that a decoder reads only the new ones.
 *
 * Axes: B sequences · L tokens in this call · G key/value heads · K head width
 */
import {
  bits,
  type Device,
  type DType,
  isTaping,
  keep,
  scope,
  ShapeError,
  tensor,
  type Tensor,
  untaped,
  UsageError,
  zeros,
} from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";

/** [begin, end) of the rows of one sequence. */
export type Span = readonly [begin: number, end: number];

/** What a caller may choose of a {@link KvCache}. */
export interface KvCacheOptions {
  /** Tokens of a sequence there is room for at first; by default one block. */
  readonly capacity?: number;
  /** Tokens of a sequence there will ever be room for; a model's default is its longest context. */
  readonly limit?: number;
  /** Tokens by which it grows at least; 256 by default. */
  readonly block?: number;
  /** How keys and values are stored: f32 by default, or bf16 or f16 for half the memory. */
  readonly dtype?: "f32" | "f16" | "bf16";
}

/** What a {@link KvCache} is made for. */
export interface KvCacheShape {
  readonly layers: number;
  /** B. */
  readonly sequences: number;
  /** G. */
  readonly heads: number;
  /** K. */
  readonly headWidth: number;
}

/** Keys and values, [B, L, G, K] of new tokens or [B, capacity, G, K] of all. */
export interface KeysValues {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** Copies rows of new tokens to their places. */
const write = defineKernel({
  name: "kvCache.write",
  inputs: ["keys", "values", "places"],
  outputs: [],
  updates: ["allKeys", "allValues"],
  uniforms: { n: "u32", width: "u32", rows: "u32", capacity: "u32" },
  knobs: { form: ["words", "words4"] },
  forms: ({ form }) => ({ keys: form, values: form, allKeys: form, allValues: form }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
      let row = i / u.width;
      let sequence = row / u.rows;
      let l = i32(row % u.rows);
      let begin = load_places(3u * sequence + 1u);
      if (l < begin || l >= load_places(3u * sequence + 2u)) { return; }
      let slot = u32(load_places(3u * sequence) + l - begin);
      let at = (sequence * u.capacity + slot) * u.width + i % u.width;
      store_allKeys(at, load_keys(i));
      store_allValues(at, load_values(i));
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/** A forward pass in progress: where its tokens go. */
export interface CacheStep {
  /** i32 [B, L, 2]: each token sees all before it in its sequence, and itself. */
  readonly visible: Tensor;
  /** [B, L], what every token stands at if it counts on from its past; 0 at padding. */
  readonly positions: Int32Array;
  /** Adds the new tokens to a layer, and gives everything that it holds. */
  append(layer: number, fresh: KeysValues): KeysValues;
  /**
   * Ends the pass: from now on the sequences are longer. Without it nothing has happened.
   *
   * @param positions  [3, B, L], where the tokens stood if not at {@link positions}: what follows counts on from there
   */
  commit(positions?: Int32Array): void;
}

/**
 * A cache in preallocated blocks: for each layer two tensors [B, capacity, G, K], in which a sequence takes its first
 * `lengths[b]` slots, whether its batch was padded left or right. Nothing is allocated until a block is full.
 *
 * It is no part of the tape: what is in it is constant.
 */
export class KvCache {
  readonly device: Device;
  readonly sequences: number;
  readonly limit: number;
  readonly #shape: KvCacheShape;
  readonly #block: number;
  readonly #dtype: DType;
  readonly #layers: KeysValues[] = [];
  /** Tokens of each sequence. */
  readonly #lengths: number[];
  /** What to add to a slot for the position of a token that counts on. */
  readonly #offsets: number[];
  #capacity = 0;
  #isDisposed = false;

  /** @throws {UsageError} when an option is no number of tokens, or a token's 16-bit elements would end inside a word */
  constructor(
    device: Device,
    shape: KvCacheShape,
    { block = 256, capacity = block, limit = Infinity, dtype = "f32" }: KvCacheOptions = {},
  ) {
    for (const [name, value] of Object.entries({ block, capacity, limit })) {
      const isCount = Number.isSafeInteger(value) || (name === "limit" && value === Infinity);
      if (!(isCount && value >= 1)) throw new UsageError(`KvCache: ${name} is ${value}, not a number of tokens`);
    }
    if (bits(dtype) === 16 && (shape.heads * shape.headWidth) % 2 === 1) {
      throw new UsageError(
        `KvCache: a token of ${shape.heads} · ${shape.headWidth} elements in ${dtype} is no whole words`,
      );
    }
    if (!(Number.isSafeInteger(shape.sequences) && shape.sequences >= 1)) {
      throw new UsageError(`KvCache: ${shape.sequences} is not a number of sequences`);
    }
    this.device = device;
    this.sequences = shape.sequences;
    this.limit = limit;
    this.#shape = shape;
    this.#block = block;
    this.#dtype = dtype;
    this.#lengths = Array<number>(shape.sequences).fill(0);
    this.#offsets = Array<number>(shape.sequences).fill(0);
    try {
      this.#grow(Math.min(capacity, limit));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Tokens in each sequence. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Tokens of a sequence there is room for without growing. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes on the device. */
  get bytes(): number {
    return this.#layers.reduce((sum, { keys, values }) => sum + keys.bytes + values.bytes, 0);
  }

  /**
   * Makes room for the tokens of one forward pass.
   *
   * @param L      rows of each sequence in this pass
   * @param valid  which of them are tokens; by default all
   * @throws {UsageError} when a sequence would outgrow the limit, or the cache was disposed
   * @throws {ShapeError} when `valid` is not a span of the rows for each sequence
   */
  begin(L: number, valid?: readonly Span[]): CacheStep {
    if (this.#isDisposed) throw new UsageError("KvCache: it was disposed");
    const { sequences: B } = this;
    const spans = spansOf(B, L, valid);
    const starts = [...this.#lengths];
    const ends = starts.map((start, b) => start + lengthOf(spans[b] as Span));
    const longest = Math.max(...ends);
    if (longest > this.limit) {
      throw new UsageError(`KvCache: a sequence of ${longest} tokens is longer than the limit of ${this.limit}`);
    }
    if (longest > this.#capacity) this.#grow(Math.min(Math.max(longest, Math.ceil(1.5 * this.#capacity)), this.limit));

    const places = new Int32Array(3 * B);
    const ranges = new Int32Array(2 * B * L);
    const positions = new Int32Array(B * L);
    for (const [b, [first, last]] of spans.entries()) {
      const start = starts[b] as number;
      places.set([start, first, last], 3 * b);
      for (let l = first; l < last; l++) {
        const slot = start + l - first;
        ranges[2 * (b * L + l) + 1] = slot + 1;
        positions[b * L + l] = slot + (this.#offsets[b] as number);
      }
    }
    const onDevice = tensor(this.device, places, { shape: [B, 3], dtype: "i32" });
    return {
      visible: tensor(this.device, ranges, { shape: [B, L, 2], dtype: "i32" }),
      positions,
      append: (layer, fresh) => this.#append(layer, fresh, onDevice),
      commit: (given) => {
        for (const [b, [first, last]] of spans.entries()) {
          this.#lengths[b] = ends[b] as number;
          if (!given || first === last) continue;
          let highest = -1;
          for (let axis = 0; axis < 3; axis++) {
            const row = (axis * B + b) * L;
            for (let l = first; l < last; l++) highest = Math.max(highest, given[row + l] as number);
          }
          this.#offsets[b] = highest + 1 - (ends[b] as number);
        }
      },
    };
  }

  /**
   * Forgets all but the first tokens. What follows counts on as after the last tokens forgotten, so a cut inside an image
   * wants positions of its own.
   *
   * @param lengths  how many each sequence keeps, or one number for all
   * @throws {UsageError} when a sequence has fewer
   */
  truncate(lengths: number | readonly number[]): void {
    const wanted = this.#lengths.map((_, b) => (typeof lengths === "number" ? lengths : lengths[b]));
    for (const [b, length] of this.#lengths.entries()) {
      const left = wanted[b];
      if (left === undefined || !Number.isSafeInteger(left) || left < 0 || left > length) {
        throw new UsageError(`KvCache: sequence ${b} has ${length} tokens and cannot be cut to ${left}`);
      }
    }
    for (const [b, left] of wanted.entries()) {
      this.#lengths[b] = left as number;
      if (left === 0) this.#offsets[b] = 0;
    }
  }

  /** Gives the memory back. Disposing twice is allowed. */
  dispose(): void {
    this.#isDisposed = true;
    for (const { keys, values } of this.#layers.splice(0)) {
      keys.dispose();
      values.dispose();
    }
  }

  #append(layer: number, { keys, values }: KeysValues, places: Tensor): KeysValues {
    const all = this.#layers[layer];
    if (!all) throw new UsageError(`KvCache: there is no layer ${layer} of ${this.#shape.layers}`);
    if (isTaping() && (keys.requiresGrad || values.requiresGrad)) {
      throw new UsageError(
        "KvCache: no gradient flows through it; call the model inside untaped(), or without a cache",
      );
    }
    untaped(() => put(all, { keys: keys.to(this.#dtype), values: values.to(this.#dtype) }, places));
    return all;
  }

  /** Makes room for `tokens`, a layer at a time: where memory ends, some layers have more room than the others. */
  #grow(tokens: number): void {
    const { layers, sequences: B, heads, headWidth } = this.#shape;
    const capacity = Math.min(Math.ceil(tokens / this.#block) * this.#block, this.limit);
    const blank = (): Tensor => zeros(this.device, [B, capacity, heads, headWidth], this.#dtype);
    scope(() => {
      const held = Int32Array.from(this.#lengths.flatMap((length) => [0, 0, length]));
      const places = tensor(this.device, held, { shape: [B, 3], dtype: "i32" });
      for (let layer = 0; layer < layers; layer++) {
        const next = { keys: blank(), values: blank() };
        const old = this.#layers[layer];
        if (old) {
          put(next, old, places);
          old.keys.dispose();
          old.values.dispose();
        }
        this.#layers[layer] = keep(next);
      }
    });
    this.#capacity = capacity;
  }
}

/** Copies `fresh` [B, rows, G, K] to its places in `all`; of one dtype. */
function put(all: KeysValues, fresh: KeysValues, places: Tensor): void {
  const { B, capacity } = all.keys.dims("B capacity _ _");
  const { rows } = fresh.keys.dims("_ rows _ _");
  const rowBytes = all.keys.bytes / (B * capacity);
  const wide = rowBytes % 16 === 0;
  const width = rowBytes / (wide ? 16 : 4);
  write(
    { keys: fresh.keys, values: fresh.values, places, allKeys: all.keys, allValues: all.values },
    {},
    { n: B * rows * width, width, rows, capacity },
    { knobs: { form: wide ? "words4" : "words" } },
  );
}

const lengthOf = ([begin, end]: Span): number => end - begin;

/**
 * The span of each sequence.
 *
 * @throws {ShapeError} when there is not one for each, or one is not inside the rows
 */
export function spansOf(B: number, L: number, valid?: readonly Span[]): readonly Span[] {
  if (!valid) return Array.from({ length: B }, () => [0, L] as const);
  if (valid.length !== B) throw new ShapeError(`valid: ${valid.length} spans for ${B} sequences`);
  for (const [b, [begin, end]] of valid.entries()) {
    const isSpan = Number.isSafeInteger(begin) && Number.isSafeInteger(end) && begin >= 0 && begin <= end && end <= L;
    if (!isSpan) throw new ShapeError(`valid: sequence ${b} has rows ${begin} to ${end}, of ${L}`);
  }
  return valid;
}
