/** What attention takes besides its tensors. */
import { ShapeError, type Tensor, UsageError } from "@rot/tensor";

/** A bias on the scores of some queries on some keys. */
export interface AttentionRule {
  /** [begin, end) of the queries. */
  readonly queries: readonly [begin: number, end: number];
  /** [begin, end) of the keys. */
  readonly keys: readonly [begin: number, end: number];
  /** Added to the scaled scores: −∞ hides the keys from the queries, ln γ multiplies their weight by γ before it is normalised. */
  readonly bias: number;
  /** The one sequence of the batch that it holds for; by default all of them. */
  readonly sequence?: number;
}

/** What {@link attention} takes besides the tensors. What hides a key from a query adds up: it must be visible to each. */
export interface AttentionOptions {
  /** What scores are multiplied by; 1/√K by default. */
  readonly scale?: number;
  /** Query i sees no key after i + (Lk − Lq): the last query sees all of them. */
  readonly causal?: boolean;
  /** i32 [B or 1, Lq, 2]: each query sees the keys [begin, end); `visibleKeys` makes it. */
  readonly visible?: Tensor | null;
  /** Biases by spans of queries and keys; they add up where they overlap. */
  readonly rules?: readonly AttentionRule[];
}

/** The options, decided. */
export interface AttentionParams {
  readonly scale: number;
  readonly causal: boolean;
  readonly rules: readonly AttentionRule[];
}

/** @throws {UsageError} when a rule has no spans or a bias that is NaN or +∞ */
export function checkRules(who: string, rules: readonly AttentionRule[]): void {
  for (const [i, { queries, keys, bias, sequence = 0 }] of rules.entries()) {
    const whole = [...queries, ...keys, sequence].every((n) => Number.isSafeInteger(n) && n >= 0 && n < 2 ** 31);
    if (!whole || queries[0] > queries[1] || keys[0] > keys[1]) {
      throw new UsageError(
        `${who}: rules[${i}] has queries ${queries.join(" to ")}, keys ${keys.join(" to ")} and sequence ${sequence}; spans are [begin, end) of whole numbers`,
      );
    }
    if (!(bias < Infinity)) {
      throw new UsageError(`${who}: the bias of rules[${i}] is ${bias}; it is a number or -Infinity`);
    }
  }
}

/** @throws {ShapeError} unless `visible` is i32 [B or 1, Lq, 2] */
export function checkVisible(who: string, visible: Tensor, B: number, Lq: number): void {
  const [sequences, queries, sides] = visible.shape;
  const fits = visible.rank === 3 && (sequences === B || sequences === 1) && queries === Lq && sides === 2;
  if (fits && visible.dtype === "i32") return;
  throw new ShapeError(
    `${who}: visible is ${visible.dtype} [${visible.shape.join(", ")}], it must be i32 [${B} or 1, ${Lq}, 2]`,
  );
}
