/**
 * A JSON parser as strict as the reference's (serde_json), which `JSON.parse` is not:
 * numbers keep their text, so that `4.0` is not 4; nesting ends at 127; a lone surrogate escape is an error, and so are
 * numbers beyond f64. On top of the reference, a duplicate key is an error, and so are more values than any model needs.
 */

import { quote, type Rule } from "./error.ts";

/** A number as it was written. */
export class Numeral {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** A parsed value. Objects are Maps, so that a key `__proto__` is a key like any other. */
export type Json = null | boolean | string | Numeral | readonly Json[] | ReadonlyMap<string, Json>;

/** Called with the first fault; must throw. */
export type Fail = (rule: Rule, message: string) => never;

/** serde_json gives up at the 128th level. */
const deepest = 127;
/** Values in one text: each takes up to 100 bytes here, and a header of 100 MB could hold fifty million. */
const mostValues = 2 ** 23;

/** What a string holds as it stands: no quote, backslash or control character. */
const plain = /[\u0020\u0021\u0023-\u005b\u005d-\uffff]*/y;
const numeral = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const hex = /[0-9a-fA-F]{4}/y;

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;

const escapes: ReadonlyMap<string, string> = new Map(
  Object.entries({ '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" }),
);

const keywords: readonly [string, Json][] = [
  ["null", null],
  ["true", true],
  ["false", false],
];

/**
 * The one value that `text` holds, with white space around it allowed.
 *
 * @param fail called with the rule broken ("json", "depth", "values" or "duplicate-key") and where
 * @param most how many values it may hold, those inside of others included
 */
export function parseJson(text: string, fail: Fail, most = mostValues): Json {
  let at = 0;
  let depth = 0;
  let values = 0;

  const wanted = (what: string): never =>
    fail(
      "json",
      `${what} wanted at character ${at}, not ${at < text.length ? quote(text.slice(at, at + 12)) : "the end"}`,
    );

  /** Moves over what the sticky `pattern` matches here; undefined when it does not. */
  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return undefined;
    const begin = at;
    at = pattern.lastIndex;
    return text.slice(begin, at);
  }

  /** Moves over white space. A loop, since a header of 100 MB has ten million places for it. */
  function skip(): void {
    while (isSpace(text.charCodeAt(at))) at++;
  }

  /** Moves over white space and then `sign`, if it comes next. */
  function take(sign: string): boolean {
    skip();
    if (text[at] !== sign) return false;
    at++;
    return true;
  }

  function escape(): string {
    const letter = text[at] ?? "";
    if (letter !== "u") {
      const character = escapes.get(letter) ?? wanted("a known escape");
      at++;
      return character;
    }
    at++;
    return String.fromCharCode(Number.parseInt(match(hex) ?? wanted("four hexadecimal digits"), 16));
  }

  function string(): string {
    const begin = at++;
    let value = match(plain) ?? "";
    let escaped = false;
    while (text[at] === "\\") {
      at++;
      escaped = true;
      value += escape() + (match(plain) ?? "");
    }
    if (text[at] !== '"') wanted("the end of a string, or no control character,");
    at++;
    // The text was valid UTF-8, so only an escape can bring half a pair.
    if (escaped && !value.isWellFormed()) fail("json", `half a surrogate pair in the string at character ${begin}`);
    return value;
  }

  function number(): Numeral {
    const written = match(numeral) ?? wanted("a value");
    if (!Number.isFinite(Number(written))) fail("json", `the number ${quote(written)} is out of range`);
    return new Numeral(written);
  }

  function object(): Json {
    const members = new Map<string, Json>();
    if (take("}")) return members;
    do {
      skip();
      if (text[at] !== '"') wanted("a key");
      const key = string();
      if (members.has(key)) fail("duplicate-key", `the key ${quote(key)} stands twice in one object`);
      if (!take(":")) wanted('":"');
      members.set(key, value());
    } while (take(","));
    if (!take("}")) wanted('"," or "}"');
    return members;
  }

  function array(): Json {
    const items: Json[] = [];
    if (take("]")) return items;
    do items.push(value());
    while (take(","));
    if (!take("]")) wanted('"," or "]"');
    return items;
  }

  function nested(content: () => Json): Json {
    at++;
    if (++depth > deepest) fail("depth", `more than ${deepest} objects and arrays in one another at character ${at}`);
    const result = content();
    depth--;
    return result;
  }

  function value(): Json {
    skip();
    if (++values > most) fail("values", `more than ${most} values at character ${at}`);
    const first = text[at];
    if (first === '"') return string();
    if (first === "{") return nested(object);
    if (first === "[") return nested(array);
    for (const [word, meaning] of keywords) {
      if (first !== word[0] || !text.startsWith(word, at)) continue;
      at += word.length;
      return meaning;
    }
    return number();
  }

  const result = value();
  skip();
  if (at < text.length) wanted("the end");
  return result;
}
