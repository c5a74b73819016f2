/** Expressions and their gradients as WGSL, one named value a line. */
import { type BinaryName, binary, type CompareName, compare, type UnaryName } from "@rot/tensor";
import { binaryRow, unaryRow } from "@rot/tensor/kernel";
import { Expression, parts, type Term } from "./expression.ts";

/** Statements that make the outputs from the inputs `in0`, `in1`, … and, in a gradient, from `dy`. */
export interface Program {
  readonly lines: readonly string[];
  /** The names of the values to store, each once. */
  readonly results: readonly string[];
  /** Which inputs it reads. */
  readonly reads: readonly boolean[];
  readonly helpers: string;
  /** Whether it holds for scalars alone. */
  readonly scalar: boolean;
}

const comparisons: Readonly<Record<CompareName, string>> = {
  eq: "a == b",
  ne: "a != b",
  lt: "a < b",
  le: "a <= b",
  gt: "a > b",
  ge: "a >= b",
};

/** What an operation is, and what its terms' cotangents are, over the names of its terms, `y` and `dy`; null: none flows. */
interface Rule {
  readonly names: readonly string[];
  readonly y: string;
  readonly slopes: readonly (string | null)[];
  readonly helpers?: string | undefined;
  readonly scalar?: boolean | undefined;
}

function ruleOf(operation: Expression["operation"]): Rule {
  if (operation === "where") {
    const chosen = (yes: string, no: string): string => `select(${no}, ${yes}, c != T(0.0))`;
    return {
      names: ["c", "a", "b"],
      y: chosen("a", "b"),
      slopes: [null, chosen("dy", "T(0.0)"), chosen("T(0.0)", "dy")],
    };
  }
  if (operation in compare) {
    // A comparison with NaN may be compiled as if there were none.
    const test = comparisons[operation as CompareName];
    const unequal = operation === "ne" ? "T(1.0)" : "T(0.0)";
    const y = `select(select(T(0.0), T(1.0), ${test}), ${unequal}, is_nan(a) | is_nan(b))`;
    return { names: ["a", "b"], y, slopes: [null, null] };
  }
  if (operation in binary) {
    const { y, da, db, helpers, scalar } = binaryRow(operation as BinaryName);
    return { names: ["a", "b"], y, slopes: [da, db], helpers, scalar };
  }
  const { y, dx, helpers, scalar } = unaryRow(operation as UnaryName);
  return { names: ["x"], y, slopes: [dx === "0" ? null : dx], helpers, scalar };
}

/** A number as WGSL spells it in f32. */
function literal(x: number): string {
  const near = Math.fround(x);
  if (Math.abs(near) === Infinity) return near < 0 ? "(-infinity())" : "infinity()";
  return `T(${Object.is(near, -0) ? "-0.0" : near})`;
}

/** Replaces names in an expression. */
const put = (text: string, values: Readonly<Record<string, string>>): string =>
  text.replaceAll(/\b[a-z]\w*\b/g, (name) => (Object.hasOwn(values, name) ? (values[name] as string) : name));

/** The values of an expression by their names: `in0`, … for inputs, `v0`, … for what is made of them. */
function named(whole: Expression): { all: Expression[]; name: (term: Term) => string } {
  const all = parts(whole);
  const names = new Map(all.map((one, i) => [one, one.operation === "input" ? `in${one.input}` : `v${i}`]));
  return { all, name: (term) => (typeof term === "number" ? literal(term) : (names.get(term) as string)) };
}

/** Names of terms, `y` and `dy`, and what they stand for. */
const meaning = ({ names }: Rule, one: Expression, name: (term: Term) => string): Record<string, string> => ({
  ...Object.fromEntries(one.terms.map((term, i) => [names[i] as string, name(term)])),
  y: name(one),
});

/** The program of an expression. */
export function forwardProgram(whole: Expression, inputs: number): Program {
  const { all, name } = named(whole);
  return finish(all, valueLines(all, name), [name(whole)], inputs);
}

const valueLines = (all: readonly Expression[], name: (term: Term) => string): string[] =>
  all.flatMap((one) => {
    if (one.operation === "input") return [];
    const rule = ruleOf(one.operation);
    return [`let ${name(one)} = ${put(rule.y, meaning(rule, one, name))};`];
  });

/** The program of a gradient. */
export interface Gradient extends Program {
  /** Of each input that wants a cotangent, the place among the results; -1 where it is `dy` itself. */
  readonly places: readonly number[];
}

/**
 * The program of the cotangents of some inputs: the values again, then from the last one back the cotangent of each, the
 * sum of what those that it is a term of give back.
 *
 * @param needs  which inputs want a cotangent
 */
export function backwardProgram(whole: Expression, needs: readonly boolean[]): Gradient {
  const { all, name } = named(whole);
  const lines = valueLines(all, name);
  const given = new Map<Expression, string[]>([[whole, ["dy"]]]);
  const cotangents = needs.map(() => "zero");
  lines.push("let zero = T(0.0);");
  for (const one of all.toReversed()) {
    const gifts = given.get(one);
    if (!gifts) continue;
    // What is handed on as it is needs no name of its own, and one store serves all that share it.
    const isName = gifts.length === 1 && /^\w+$/.test(gifts[0] as string);
    const dy = isName ? (gifts[0] as string) : `d_${name(one)}`;
    if (!isName) lines.push(`let ${dy} = ${gifts.map((gift) => `(${gift})`).join(" + ")};`);
    if (one.operation === "input") {
      cotangents[one.input] = dy;
      continue;
    }
    const rule = ruleOf(one.operation);
    for (const [i, term] of one.terms.entries()) {
      const slope = rule.slopes[i];
      if (!(term instanceof Expression) || !slope) continue;
      const own = given.get(term) ?? [];
      own.push(put(slope, { ...meaning(rule, one, name), dy }));
      given.set(term, own);
    }
  }
  const wanted = cotangents.filter((_, i) => needs[i]);
  const results = [...new Set(wanted)].filter((cotangent) => cotangent !== "dy");
  return {
    ...finish(all, lines, results, needs.length),
    places: wanted.map((cotangent) => results.indexOf(cotangent)),
  };
}

/** Leaves out what no result needs, and adds what the rest calls. */
function finish(
  all: readonly Expression[],
  lines: readonly string[],
  results: readonly string[],
  inputs: number,
): Program {
  const wanted = new Set(results);
  const kept = lines
    .toReversed()
    .filter((line) => {
      const [, name, value] = /^let (\w+) = (.*)$/.exec(line) as unknown as [string, string, string];
      if (!wanted.has(name)) return false;
      for (const [word] of value.matchAll(/\b(?:in|v|d_in|d_v)\d+\b/g)) wanted.add(word);
      return true;
    })
    .toReversed();
  const rules = all.filter(({ operation }) => operation !== "input").map(({ operation }) => ruleOf(operation));
  return {
    lines: kept,
    results,
    reads: Array.from({ length: inputs }, (_, i) => wanted.has(`in${i}`)),
    helpers: declarations(rules.map(({ helpers }) => helpers ?? "")),
    scalar: rules.some(({ scalar }) => scalar),
  };
}

/** WGSL declarations, each name once: several rows bring the same functions. */
function declarations(texts: readonly string[]): string {
  const found = new Map<string, string>();
  for (const text of texts) {
    for (const one of text.split(/(?=\b(?:fn|struct|const) )/)) {
      const name = /^(?:fn|struct|const) (\w+)/.exec(one)?.[1];
      if (name && !found.has(name)) found.set(name, one);
    }
  }
  return [...found.values()].join("\n");
}
