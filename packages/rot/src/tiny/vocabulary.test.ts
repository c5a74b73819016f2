import { Tokenizer } from "@rot/models";
import { expect, test } from "vitest";
import { tinyTokenizer, tokenizerConfig } from "./tokenizer.ts";
import { decode, encode, marks, spellings } from "./vocabulary.ts";

const text = "8-5+3+1+2*7= 3, 6;>xabc";

test("text goes there and back, and what is not known is refused by its name", () => {
  expect(decode(encode(text))).toBe(text);
  expect(() => encode("7/2")).toThrow(/does not know "\/"; it knows 0123/);
  expect(new Set(spellings).size).toBe(32);
});

test("the tokenizer's files say the same", () => {
  const files = { tokenizer: JSON.stringify(tinyTokenizer()), config: JSON.stringify(tokenizerConfig) };
  const tokenizer = new Tokenizer(files);
  expect(tokenizer.encode(`<q>${text}<img_begin><image><img_end>`)).toEqual([
    marks.question,
    ...encode(text),
    marks.begin,
    marks.image,
    marks.done,
  ]);
  expect(tokenizer.decode(encode(text))).toBe(text);
  expect([tokenizer.eosId, tokenizer.padId]).toEqual([marks.end, marks.pad]);
  expect(Math.min(...tokenizer.encode("é/"))).toBeGreaterThanOrEqual(spellings.length);
});
