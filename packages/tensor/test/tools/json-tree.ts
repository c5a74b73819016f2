/** JSON as a tree of raw text, which can also say what is not JSON: bad numbers, half escapes, the same key twice. */

import type { Random } from "./random.ts";

/** A tree whose leaves and keys are raw text, printed as they are. */
export type Tree =
  | { kind: "leaf"; text: string }
  | { kind: "array"; items: Tree[] }
  | { kind: "object"; members: [key: string, value: Tree][] };

export const leaf = (text: string | number): Tree => ({ kind: "leaf", text: `${text}` });
export const array = (items: Tree[]): Tree => ({ kind: "array", items });
export const object = (members: [string, Tree][]): Tree => ({ kind: "object", members });

/** How white space is strewn. */
export interface Spacing {
  between: string;
  after: string;
}

/** The text of `tree`. */
export function print(tree: Tree, spacing: Spacing): string {
  const { between, after } = spacing;
  if (tree.kind === "leaf") return tree.text;
  if (tree.kind === "array") return `[${between}${tree.items.map((item) => print(item, spacing)).join(`,${after}`)}]`;
  const members = tree.members.map(([key, value]) => `${key}:${after}${print(value, spacing)}`);
  return `{${between}${members.join(`${between},${after}`)}${between}}`;
}

/** Every node of `tree`, itself first. */
export function nodes(tree: Tree): Tree[] {
  if (tree.kind === "leaf") return [tree];
  const children = tree.kind === "array" ? tree.items : tree.members.map(([, value]) => value);
  return [tree, ...children.flatMap(nodes)];
}

/** `tree` anew, sharing no node. */
export function copy(tree: Tree): Tree {
  if (tree.kind === "leaf") return { kind: "leaf", text: tree.text };
  if (tree.kind === "array") return array(tree.items.map(copy));
  return object(tree.members.map(([key, value]) => [key, copy(value)]));
}

/** Changes `target` into a copy of `source`, in place. */
export function become(target: Tree, source: Tree): void {
  Object.assign(target, copy(source));
}

/** Numbers at which parsers differ; not all of them are JSON. */
export const hardNumbers = [
  ..."0 1 2 3 4 6 8 12 16 24 255 256 -0 -1 0.0 4.0 4e0 1e3 8E0 -0.0 00 01 +4 .5 4. 1e 1e+ 0x4 1_0 NaN Infinity -".split(
    " ",
  ),
  ..."2147483648 4294967296 9007199254740991 9007199254740993 9223372036854775807 9223372036854775808".split(" "),
  ..."18446744073709551615 18446744073709551616 2305843009213693952 4611686018427387904 1e308 1e309 -1e400".split(" "),
  ..."1e-400 0e999 1e99999999999 123456789012345678901234567890 0.1 1.5e3 -9223372036854775809".split(" "),
];

/** Strings at which parsers differ; not all of them are JSON. */
export const hardStrings = [
  String.raw`""`,
  String.raw`"a"`,
  String.raw`"__metadata__"`,
  String.raw`"__proto__"`,
  String.raw`"constructor"`,
  String.raw`"../../x"`,
  String.raw`"\u0000"`,
  String.raw`"\u00e9\u00E9é"`,
  String.raw`"\ud83d\ude00"`,
  String.raw`"\uD83D\uDE00\/\b\f\n\r\t\"\\"`,
  '"😀 \u2028 \u007f \ufeff"',
  String.raw`"\ud800"`,
  String.raw`"\udc00"`,
  String.raw`"\ud800\ud800"`,
  String.raw`"\ud800x"`,
  String.raw`"\udc00\ud800"`,
  String.raw`"\ud800\u0041"`,
  String.raw`"\u12"`,
  String.raw`"\u12g4"`,
  String.raw`"\U0041"`,
  String.raw`"\x41"`,
  String.raw`"\v"`,
  String.raw`"\'"`,
  String.raw`'a'`,
  String.raw`"a`,
  String.raw`a"`,
  '"\n"',
  '"\t"',
  '"\u0000"',
  '"\u001f"',
];

/** Some value, mostly JSON, `depth` levels deep at most. */
export function anyTree(random: Random, depth = 3): Tree {
  switch (random.below(depth > 0 ? 9 : 5)) {
    case 0:
    case 1:
      return leaf(random.pick(hardNumbers));
    case 2:
      return leaf(random.pick(hardStrings));
    case 3:
      return leaf(
        random.pick(["null", "true", "false", "null", "true", "false", "tru", "nul", "nulll", "True", "undefined"]),
      );
    case 4:
      return leaf(random.below(100));
    case 5:
      return leaf(tower(random));
    case 6:
      return array(Array.from({ length: random.below(4) }, () => anyTree(random, depth - 1)));
    default:
      return object(
        Array.from({ length: random.below(4) }, (_, index) => [
          random.chance(10) ? random.pick(hardStrings) : `"k${random.chance(10) ? 0 : index}"`,
          anyTree(random, depth - 1),
        ]),
      );
  }
}

/** Nesting about as deep as the reference allows, or far deeper. */
function tower(random: Random): string {
  const height = random.chance(4) ? 2000 : random.pick([1, 2, 60, 120, 123, 124, 125, 126, 127, 128, 129]);
  return random.chance(50)
    ? "[".repeat(height) + "]".repeat(height)
    : `${'{"a":'.repeat(height)}1${"}".repeat(height)}`;
}

/** The same string with some characters written as escapes; text that is no plain string comes back as it is. */
export function escapeSome(text: string, random: Random): string {
  if (!/^"[^"\\]+"$/.test(text)) return text;
  const inside = text.slice(1, -1).replaceAll(/./gsu, (character) => {
    if (random.chance(60)) return character;
    return character.replaceAll(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  });
  return `"${inside}"`;
}
