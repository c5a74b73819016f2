/** Elementwise expressions as data: what {@link fuse} traces, and what the ops of the engine make of them. */
import {
  binary,
  type BinaryName,
  cast,
  compare,
  type CompareName,
  type Tensor,
  unary,
  type UnaryName,
  UsageError,
  where,
} from "@rot/tensor";

/** An expression, or a number. */
export type Term = Expression | number;

type Unaries = { readonly [N in UnaryName]: () => Expression };
type Binaries = { readonly [N in BinaryName]: (other: Term) => Expression };
type Comparisons = { readonly [N in CompareName]: (other: Term) => Expression };

// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the methods are made from the tables below
export interface Expression extends Unaries, Binaries, Comparisons {}

/** What an expression does with its terms. */
export type Operation = UnaryName | BinaryName | CompareName | "where" | "input";

/** A value of each element, with the methods of a tensor that work element by element. */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the methods are made from the tables below
export class Expression {
  readonly operation: Operation;
  readonly terms: readonly Term[];
  /** Of an input, which one. */
  readonly input: number;

  constructor(operation: Operation, terms: readonly Term[], input = -1) {
    for (const term of terms) {
      if (!(term instanceof Expression) && (typeof term !== "number" || Number.isNaN(term))) {
        throw new UsageError(
          `fuse: ${operation} of ${String(term)}, which is neither a number nor an expression of the arguments`,
        );
      }
    }
    this.operation = operation;
    this.terms = terms;
    this.input = input;
  }

  /** `a` where this is not 0, `b` elsewhere. */
  where(a: Term, b: Term): Expression {
    return new Expression("where", [this, a, b]);
  }
}

const methods = [...Object.keys(unary), ...Object.keys(binary), ...Object.keys(compare)] as Exclude<
  Operation,
  "where" | "input"
>[];
for (const name of methods) {
  Object.defineProperty(Expression.prototype, name, {
    value(this: Expression, ...others: Term[]) {
      return new Expression(name, [this, ...others]);
    },
  });
}

/** Every expression that one is made of, itself last: terms come before what is made of them. */
export function parts(whole: Expression): Expression[] {
  const found = new Set<Expression>();
  const visit = (one: Expression): void => {
    if (found.has(one)) return;
    for (const term of one.terms) if (term instanceof Expression) visit(term);
    found.add(one);
  };
  visit(whole);
  return [...found];
}

/** The expression in primitives, one op after the other. */
export function evaluate(whole: Expression, inputs: readonly Tensor[]): Tensor {
  const values = new Map<Expression, Tensor>();
  const of = (term: Term): Tensor | number => (typeof term === "number" ? term : (values.get(term) as Tensor));
  for (const one of parts(whole)) values.set(one, apply(one, one.terms.map(of), inputs));
  return values.get(whole) as Tensor;
}

function apply(
  { operation, input }: Expression,
  [a, b, c]: readonly (Tensor | number)[],
  inputs: readonly Tensor[],
): Tensor {
  if (operation === "input") return inputs[input] as Tensor;
  if (operation === "where") return where(a as Tensor, b as Tensor, c as Tensor);
  if (operation in unary) return unary[operation as UnaryName](a as Tensor);
  if (operation in compare) return compare[operation as CompareName](a as Tensor, b as Tensor);
  return binary[operation as BinaryName](a as Tensor, b as Tensor);
}

/** Comparisons as floats stand for bools; this makes a bool tensor one. */
export const asFloat = (x: Tensor): Tensor => (x.dtype === "bool" ? cast(x, "f32") : x);
