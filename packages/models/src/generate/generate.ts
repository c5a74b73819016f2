/**
 * Tokens after a prompt, one by one.
 *
 * Axes: B sequences · D model width · V vocabulary · N how many of the likeliest tokens are asked for
 */
import { logProbs, sample, topLogProbs } from "@rot/kernels";
import { concat, gatherLast, keep, key, scope, type Seed, tensor, type Tensor, untaped, UsageError } from "@rot/tensor";
import type { KvCacheOptions, Span } from "../kv-cache.ts";
import type { VisionLanguageModel } from "../vision-language-model.ts";
import { NumericError } from "./error.ts";
import { prefill, type Prefilled, type Prompt } from "./prefill.ts";

/** Whether a sequence ends with a token. Called once for each token, in order. */
export type StopRule = (id: number, sequence: number) => boolean;

/** How tokens are chosen, and when to stop. */
export interface GenerateOptions {
  /** Tokens of each sequence at most; a sequence also ends where the model's context or the cache does. */
  readonly maxNewTokens: number;
  /** The tokens that end a sequence, or a rule of the caller's; by default none does. */
  readonly stop?: readonly number[] | StopRule;
  /** What the scores are divided by; 0, the default, takes the likeliest token. */
  readonly temperature?: number;
  /** Only so many of the likeliest tokens; 0, the default, means all. */
  readonly topK?: number;
  /** Only the likeliest tokens that together have this share; 1, the default, means all. */
  readonly topP?: number;
  /** Where random numbers come from; 0 by default. */
  readonly seed?: Seed;
  /** The number of each sequence's sample, which its random numbers depend on; by default its place in the batch. */
  readonly samples?: readonly number[];
  /** Report log-probabilities: of each token, and of so many of the likeliest at its place. By default none. */
  readonly logProbs?: number;
  /**
   * Send the next step before the tokens of this one are known: the device need not wait for the host, but a step more is
   * computed than is used when all sequences stop. By default on hardware only. The tokens are the same.
   */
  readonly ahead?: boolean;
}

/** Why a sequence ended: at a stop token, or for lack of room. */
export type FinishReason = "stop" | "length";

/** A token and its natural log-probability, of the model's own distribution: before temperature and filters. */
export interface ScoredToken {
  readonly id: number;
  readonly logProb: number;
}

/** A token, as soon as it is known. */
export interface GeneratedToken {
  /** Which sequence of the batch it continues. */
  readonly sequence: number;
  readonly id: number;
  /** On the last token of a sequence, which may be a stop token. */
  readonly finish: FinishReason | null;
  /** When log-probabilities were asked for. */
  readonly logProb?: number;
  /** The likeliest tokens of this step, in descending order. */
  readonly top?: readonly ScoredToken[];
}

/** Everything that was generated for a sequence. */
export interface Generated {
  readonly tokens: readonly GeneratedToken[];
  readonly ids: readonly number[];
  readonly finish: FinishReason;
}

/**
 * Continues prompts of unequal length, with a token of each sequence at every step. The ids stay on the device: they are
 * sampled and embedded there, and read back once a step. Sequences that are done rest.
 *
 * Leaving the loop early is allowed; memory is given back then too.
 *
 * @throws {UsageError} when an option is out of its range, or a prompt is empty
 * @throws {ContextError} when a prompt leaves no room in the model's context
 * @throws {NumericError} when the scores of a step are no numbers
 * @throws {DeviceError} whatever goes wrong on the device
 */
export async function* generate(
  model: VisionLanguageModel,
  prompts: readonly Prompt[],
  options: GenerateOptions & { readonly cache?: Pick<KvCacheOptions, "dtype" | "block"> },
): AsyncGenerator<GeneratedToken, void, undefined> {
  checkOptions(options, prompts.length, model.vocabulary);
  const room = Math.min(options.maxNewTokens, LONGEST_RESERVED);
  const prefilled = prefill(model, prompts, { room, ...options.cache });
  try {
    yield* decode(model, prefilled, options);
  } finally {
    prefilled.last.dispose();
    prefilled.cache.dispose();
  }
}

/** Room for new tokens that is set aside at once; beyond it the cache grows. */
const LONGEST_RESERVED = 256;

/**
 * Continues sequences that are in a cache already, as {@link generate} does.
 *
 * Afterwards the cache holds every token but the last of each sequence, which nothing has been computed from.
 *
 * @param prefilled  stays the caller's; `last` is [B, D], the hidden state that the first token is chosen from
 * @throws as {@link generate}
 */
export async function* decode(
  model: VisionLanguageModel,
  { cache, last }: Prefilled,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken, void, undefined> {
  const B = cache.sequences;
  checkOptions(options, B, model.vocabulary);
  const { stop = [], ahead = model.device.kind === "hardware" } = options;
  const stops: StopRule = typeof stop === "function" ? stop : (id) => stop.includes(id);
  const begun = [...cache.lengths];
  /** How many tokens each sequence may still get. */
  const left = begun.map((length) =>
    Math.min(options.maxNewTokens, model.maxPositions - length, cache.limit + 1 - length),
  );
  const made = begun.map(() => 0);
  const isDone = left.map((count) => count <= 0);
  const { samples } = options;
  const numbers = keep(tensor(model.device, Uint32Array.from(samples ?? begun.keys()), { dtype: "u32" }));

  /** The step after one whose tokens are on the device; null when no sequence goes on. */
  const advance = ({ ids }: Choice, step: number): Choice | null => {
    // A sequence that has got its last token by then is not worth a computation.
    const valid = isDone.map((done, b): Span => [0, !done && step < (left[b] as number) ? 1 : 0]);
    if (valid.every(([, end]) => end === 0)) return null;
    return untaped(() =>
      scope(() => {
        const embeddings = model.embed(ids).reshape(B, 1, model.width);
        return choose(
          model,
          model.forward(embeddings, { cache, valid }).reshape(B, model.width),
          step,
          numbers,
          options,
        );
      }),
    );
  };

  let current: Choice | null = null;
  let next: Choice | null = null;
  try {
    if (!isDone.every(Boolean)) current = untaped(() => scope(() => choose(model, last, 0, numbers, options)));
    for (let step = 0; current; step++) {
      const reading = current.record.read();
      if (ahead) {
        reading.catch(() => {}); // the await below throws it
        next = advance(current, step + 1);
        model.device.flush();
      }
      const record = await reading;
      for (let b = 0; b < B; b++) {
        if (isDone[b]) continue;
        const token = tokenOf(record, b, B, options.logProbs);
        made[b] = step + 1;
        const finish = stops(token.id, b) ? "stop" : step + 1 === left[b] ? "length" : null;
        isDone[b] = finish !== null;
        yield { ...token, finish };
      }
      if (isDone.every(Boolean)) return;
      next ??= advance(current, step + 1);
      current.dispose();
      [current, next] = [next, null];
    }
  } finally {
    current?.dispose();
    next?.dispose();
    numbers.dispose();
    cache.truncate(
      cache.lengths.map((length, b) => Math.min(length, (begun[b] as number) + Math.max(0, (made[b] as number) - 1))),
    );
  }
}

/**
 * Everything that comes, by sequence.
 *
 * @param sequences  B
 */
export async function collect(tokens: AsyncIterable<GeneratedToken>, sequences: number): Promise<Generated[]> {
  const all = Array.from({ length: sequences }, (): GeneratedToken[] => []);
  for await (const token of tokens) all[token.sequence]?.push(token);
  return all.map((own) => ({
    tokens: own,
    ids: own.map(({ id }) => id),
    finish: own.at(-1)?.finish ?? "length",
  }));
}

/** The tokens of one step, on the device and in no scope. */
interface Choice {
  /** i32 [B] */
  readonly ids: Tensor;
  /** f32 [B, 2 + 2N]: id, score, then ids and scores of the likeliest. What is read back. */
  readonly record: Tensor;
  dispose(): void;
}

/** Chooses the tokens of a step from hidden states [B, D]; `samples` u32 [B] numbers the sequences. */
function choose(
  model: VisionLanguageModel,
  hidden: Tensor,
  step: number,
  samples: Tensor,
  { temperature = 0, topK = 0, topP = 1, seed = 0, logProbs: count }: GenerateOptions,
): Choice {
  const logits = model.logits(hidden);
  const ids = sample(logits, { seed: key(seed).for("generate", step), temperature, topK, topP, samples });
  const score = count === undefined ? gatherLast(logits, ids) : logProbs(logits, ids);
  const columns = [ids.to("f32").reshape(-1, 1), score.reshape(-1, 1)];
  if (count) {
    const { indices, values } = topLogProbs(logits, count);
    columns.push(indices.to("f32"), values);
  }
  const record = concat(columns, -1);
  return {
    ...keep({ ids, record }),
    dispose() {
      ids.dispose();
      record.dispose();
    },
  };
}

/** The token of a sequence in what a step gave. */
function tokenOf(record: ArrayLike<number>, b: number, B: number, count?: number): Omit<GeneratedToken, "finish"> {
  const begin = b * (record.length / B);
  const [id = NaN, score = NaN] = [record[begin], record[begin + 1]];
  if (!(id >= 0 && Number.isFinite(score))) {
    throw new NumericError(
      `generate: the scores of sequence ${b} are NaN or infinite; the checkpoint is damaged, or its values are too large for its dtype (try f32)`,
    );
  }
  if (count === undefined) return { sequence: b, id };
  const top = Array.from({ length: count }, (_, i) => ({
    id: record[begin + 2 + i] as number,
    logProb: record[begin + 2 + count + i] as number,
  }));
  return { sequence: b, id, logProb: score, top };
}

/** @throws {UsageError} when an option is out of its range; temperature, topK and topP are checked where they are used */
function checkOptions({ maxNewTokens, samples, logProbs: count = 0 }: GenerateOptions, B: number, V: number): void {
  if (!(Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 1)) {
    throw new UsageError(`generate: maxNewTokens is ${maxNewTokens}, not a number of tokens`);
  }
  if (!(Number.isSafeInteger(count) && count >= 0 && count <= V)) {
    throw new UsageError(`generate: logProbs is ${count}, not a number of tokens up to ${V}`);
  }
  if (samples && samples.length !== B) {
    throw new UsageError(`generate: ${samples.length} samples number ${B} sequences`);
  }
  const wrong = samples?.find((n) => !(Number.isInteger(n) && n >= 0 && n < 2 ** 32));
  if (wrong !== undefined)
    throw new UsageError(`generate: a sample has the number ${wrong}, not a whole one below 2^32`);
}
