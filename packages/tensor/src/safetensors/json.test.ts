import fc from "fast-check";
import { expect, test } from "vitest";
import { type Json, Numeral, parseJson } from "./json.ts";

const parse = (text: string): Json =>
  parseJson(text, (rule, message) => {
    throw new SyntaxError(`${rule}: ${message}`);
  });

/** As `JSON.parse` gives it. */
function plain(value: Json): unknown {
  if (value instanceof Numeral) return Number(value.text);
  if (Array.isArray(value)) return (value as readonly Json[]).map(plain);
  if (!(value instanceof Map)) return value;
  // Not by assignment, which would not make a member of `__proto__`.
  return Object.fromEntries([...(value as ReadonlyMap<string, Json>)].map(([key, member]) => [key, plain(member)]));
}

test("any JSON value means what JSON.parse says it means", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.constantFrom(undefined, 1, "\t", "\r\n"), (text, indent) => {
      const spread = JSON.stringify(JSON.parse(text), undefined, indent);
      expect(plain(parse(spread))).toEqual(JSON.parse(spread));
    }),
    { seed: 1, numRuns: 2000 },
  );
});

test("any string comes back from its JSON", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 50 }), (text) => {
      expect(parse(JSON.stringify(text))).toBe(text);
      const escaped = text.replaceAll(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
      expect(parse(`"${escaped}"`)).toBe(text);
    }),
    { seed: 1, numRuns: 2000 },
  );
});

test("text is refused where JSON.parse refuses it, whatever it is", () => {
  const alphabet = [...Array.from('{}[]:,"\\0123456789-+.eE \n\tu'), "true", "false", "null", "\\u00", "\0", "\u00a0"];
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 12 }), (text) => {
      let expected: unknown;
      try {
        expected = JSON.parse(text);
      } catch {
        expect(() => parse(text)).toThrow(SyntaxError);
        return;
      }
      // What JSON.parse takes and the reference does not: lone surrogates, numbers beyond f64, a key twice.
      try {
        expect(plain(parse(text))).toEqual(expected);
      } catch (error) {
        expect((error as Error).message).toMatch(/surrogate|out of range|duplicate-key/);
      }
    }),
    { seed: 1, numRuns: 20_000 },
  );
});

test("a text of too many values is refused before they fill the memory", () => {
  const fail = (rule: string, message: string): never => {
    throw new SyntaxError(`${rule}: ${message}`);
  };
  const text = '{"a":[1,{"b":null}],"c":""}';
  expect(plain(parseJson(text, fail, 6))).toEqual(JSON.parse(text));
  expect(() => parseJson(text, fail, 5)).toThrow("values: more than 5 values at character 24");
});

test("numbers keep their text", () => {
  const written = ["0", "-0", "4.0", "1e3", "18446744073709551615", "1E-400", "-1.5e+3"];
  expect(written.map((text) => (parse(text) as Numeral).text)).toEqual(written);
});

test("a message says what was wanted, where, and what came", () => {
  expect(() => parse('{"a" 1}')).toThrow('json: ":" wanted at character 5, not "1}"');
  expect(() => parse('["a",')).toThrow("json: a value wanted at character 5, not the end");
  expect(() => parse('"\u0007"')).toThrow(
    'json: the end of a string, or no control character, wanted at character 1, not "\\u0007\\""',
  );
});
