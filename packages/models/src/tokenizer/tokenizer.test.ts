import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { mutate, random } from "../../test/tools/mutate.ts";
import { texts } from "../../test/tools/texts.ts";
import { TokenizerError } from "./error.ts";
import { checkExpression } from "./expression.ts";
import { Tokenizer, visionTokens } from "./tokenizer.ts";

const folder = new URL("../../test/golden/qwen3vl_tiny/", import.meta.url);
const json = readFileSync(new URL("tokenizer.json", folder), "utf8");
const config = readFileSync(new URL("tokenizer_config.json", folder), "utf8");
const open = () => new Tokenizer({ tokenizer: json, config, name: "tiny" });
const tokenizer = open();

interface Json {
  added_tokens: { id: number; content: string; special: boolean }[];
  normalizer: unknown;
  decoder: unknown;
  pre_tokenizer: { pretokenizers: [{ pattern: { Regex: string } }] };
  model: { vocab: Record<string, number>; merges: unknown[]; type: string };
}
/** The tokenizer of a changed tokenizer.json. */
function changed(change: (json: Json) => void): () => Tokenizer {
  const copy = JSON.parse(json) as Json;
  change(copy);
  return () => new Tokenizer({ tokenizer: JSON.stringify(copy), config, name: "tiny" });
}

test("10,000 texts have the ids of tokenizers 0.23.3, the Rust library, and decode as there", () => {
  const digest = createHash("sha256");
  for (const text of texts(10_000)) {
    const ids = tokenizer.encode(text);
    const decoded = [tokenizer.decode(ids), tokenizer.decode(ids, { skipSpecialTokens: true })];
    digest.update(`${JSON.stringify([ids, ...decoded])}\n`);
  }
  // What the Rust library gave for the same texts, in the same form.
  expect(digest.digest("hex")).toBe("afa2b001bccd46f46e5fba50d8e9f2ea55d6a0b9e3ff49a7e694a78ecd815af0");
});

test("a stream gives what decode gives, and never half a character", () => {
  const next = random(3);
  for (let i = 0; i < 300; i++) {
    const ids = Array.from({ length: next(30) }, () => next(1024));
    const stream = tokenizer.stream();
    const parts = ids.map((id) => stream.push(id));
    expect(parts.join("") + stream.end()).toBe(tokenizer.decode(ids));
  }
  const [first, ...rest] = tokenizer.encode("漢");
  const stream = tokenizer.stream();
  expect(stream.push(first as number)).toBe("");
  expect(stream.push(rest)).toBe("漢");
  expect(stream.end()).toBe("");
});

test("ids without a token decode to nothing, no ids to no text", () => {
  expect(tokenizer.decode([])).toBe("");
  expect(tokenizer.decode([1023, -1, 0.5, 1e9])).toBe("");
  expect(tokenizer.encode("")).toEqual([]);
  expect(() => tokenizer.tokens([1023])).toThrow("tiny/tokenizer.json has no token with the id 1023");
});

test("half a surrogate pair is encoded as U+FFFD", () => {
  expect(tokenizer.encode("a\ud800b")).toEqual(tokenizer.encode("a\ufffdb"));
});

test("special tokens by name, and a clear error for those there are not", () => {
  expect(tokenizer.tokens([tokenizer.eosId, tokenizer.padId])).toEqual(["<|im_end|>", "<|endoftext|>"]);
  for (const token of Object.values(visionTokens)) expect(tokenizer.tokens([tokenizer.id(token)])).toEqual([token]);
  expect(tokenizer.named).toEqual({ eos_token: "<|im_end|>", pad_token: "<|endoftext|>" });
  const bare = changed(({ added_tokens: added }) => added.splice(0))();
  expect(() => bare.eosId).toThrow(new TokenizerError('tiny/tokenizer.json has no token "<|im_end|>"'));
  expect(() => bare.id(visionTokens.imagePad)).toThrow('tiny/tokenizer.json has no token "<|image_pad|>"');
  const unnamed = new Tokenizer({ tokenizer: json });
  expect(() => unnamed.padId).toThrow("tokenizer_config.json names no pad_token");
  const asObject = new Tokenizer({ tokenizer: json, config: '{"eos_token":{"content":"<|im_end|>","special":true}}' });
  expect(asObject.eosId).toBe(tokenizer.eosId);
});

test("added tokens: known ones keep their id, new ones follow the last", () => {
  const larger = open();
  const { size } = larger;
  expect(larger.addTokens(["<|im_end|>", "<x>", "<x>", "Ġthe"])).toBe(2);
  expect(larger.id("<x>")).toBe(size);
  expect(larger.size).toBe(size + 1);
  expect(larger.addTokens(["<x>"])).toBe(0);
  expect(larger.encode("a<x>b")).toEqual([...tokenizer.encode("a"), size, ...tokenizer.encode("b")]);
  expect(larger.decode([size], { skipSpecialTokens: true })).toBe("<x>");
  expect(() => larger.addTokens([""])).toThrow(TokenizerError);
});

test.for<[string, (json: Json) => void, RegExp]>([
  ["a missing byte", ({ model }) => void (delete model.vocab["a"], (model.merges = [])), /no token for the byte 0x61/],
  [
    "a merge without a token",
    ({ model }) => model.merges.push(["a", "Ġ", "b"]),
    /merge \d+ is \["a","Ġ","b"\], not a pair/,
  ],
  ["a merge of the unknown", ({ model }) => model.merges.push(["!", "!!!!!!!!"]), /needs the token "!!!!!!!!"/],
  ["two tokens of one id", ({ model }) => (model.vocab["a"] = 1), /have the same id 1/],
  ["an id that is none", ({ model }) => (model.vocab["a"] = -1), /the id of "a" is -1/],
  [
    "an id too large",
    ({ added_tokens: added }) => ((added[0] as { id: number }).id = 2 ** 31),
    /added_tokens\[0\]\.id/,
  ],
  ["another kind", ({ model }) => (model.type = "Unigram"), /model\.type/],
  ["another decoder", (file) => (file.decoder = { type: "Metaspace" }), /decoder/],
  [
    "a normalizer that replaces",
    (file) => (file.normalizer = { type: "Replace", pattern: { String: "a" }, content: "aa" }),
    /normalizer/,
  ],
  [
    "an expression without end",
    (file) => (file.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a+)+$"),
    /repeats a group without bound/,
  ],
  [
    "an expression that is none",
    (file) => (file.pre_tokenizer.pretokenizers[0].pattern.Regex = "(?i:"),
    /tokenizer\.json/,
  ],
])("refused: %s", ([, change, message]) => {
  expect(changed(change)).toThrow(TokenizerError);
  expect(changed(change)).toThrow(message);
});

test("expressions: the published ones pass, those that can take exponential time do not", () => {
  const published = [
    (JSON.parse(json) as Json).pre_tokenizer.pretokenizers[0].pattern.Regex,
    String.raw`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  ];
  for (const expression of published) checkExpression(expression, "tokenizer.json");
  for (const expression of ["(a|a)*b", "(?:x+){2,}", String.raw`(a)\1+`, String.raw`\s*\s*\s*x`, "a".repeat(5000)])
    expect(() => checkExpression(expression, "tokenizer.json"), expression).toThrow(/^tokenizer.json: .* is refused/);
  expect(() => checkExpression(String.raw`[)]+\)+[*+]`, "tokenizer.json")).not.toThrow();
});

test("1,000 damaged tokenizer.json give a tokenizer that works or a TokenizerError", () => {
  const next = random(9);
  // Bytes and 40 merges, so that much of the damage hits structure.
  const small = JSON.parse(json) as Json;
  small.model.merges.splice(40);
  const kept = new Set(small.model.merges.map((pair) => (pair as string[]).join("")));
  for (const token of Object.keys(small.model.vocab))
    if (token.length > 1 && !kept.has(token)) delete small.model.vocab[token];
  const whole = new TextEncoder().encode(JSON.stringify(small));
  let good = 0;
  for (let i = 0; i < 1000; i++) {
    const damaged = mutate(whole, next);
    try {
      const one = new Tokenizer({ tokenizer: new TextDecoder().decode(damaged), config });
      expect(one.decode(one.encode("plain text 42"))).toBeTypeOf("string");
      good++;
    } catch (error) {
      if (!(error instanceof TokenizerError)) throw error;
    }
  }
  expect(good).toBeGreaterThan(20);
  expect(good).toBeLessThan(900);
});
