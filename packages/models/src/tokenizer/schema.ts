/** The parts of `tokenizer.json` and `tokenizer_config.json` that are read, checked before anything is built from them. */

import { z } from "zod";
import { bytesOf, characters } from "./bytes.ts";
import { quote, TokenizerError } from "./error.ts";
import { checkExpression } from "./expression.ts";

/** Far above any vocabulary there is; an array is made of that length. */
const largestId = 2 ** 22;

const id = z.int().min(0).max(largestId);

const addedToken = z.looseObject({
  id,
  content: z.string().min(1),
  single_word: z.literal(false).optional(),
  lstrip: z.boolean().optional(),
  rstrip: z.boolean().optional(),
  normalized: z.boolean().optional(),
  special: z.boolean().optional(),
});

const oneNormalizer = z.looseObject({ type: z.enum(["NFC", "NFD", "NFKC", "NFKD"]) });
const normalizer = z.union([
  oneNormalizer,
  z.looseObject({ type: z.literal("Sequence"), normalizers: z.array(oneNormalizer).max(16) }),
]);

const byteLevel = z.looseObject({
  type: z.literal("ByteLevel"),
  add_prefix_space: z.boolean().optional(),
  use_regex: z.boolean().optional(),
});
const split = z.looseObject({
  type: z.literal("Split"),
  pattern: z.union([z.strictObject({ Regex: z.string() }), z.strictObject({ String: z.string().min(1).max(4096) })]),
  behavior: z.enum(["Isolated", "Removed"]),
  invert: z.boolean(),
});
const digits = z.looseObject({ type: z.literal("Digits"), individual_digits: z.boolean() });
const onePreTokenizer = z.discriminatedUnion("type", [byteLevel, split, digits]);
const preTokenizer = z.union([
  onePreTokenizer,
  z.looseObject({ type: z.literal("Sequence"), pretokenizers: z.array(onePreTokenizer).min(1).max(16) }),
]);

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(addedToken).max(100_000).default([]),
  normalizer: normalizer.nullable().default(null),
  pre_tokenizer: preTokenizer,
  post_processor: byteLevel.nullable().default(null),
  decoder: byteLevel,
  model: z.looseObject({
    type: z.literal("BPE").default("BPE"),
    dropout: z.literal(0).nullish(),
    unk_token: z.null().optional(),
    continuing_subword_prefix: z.literal("").nullish(),
    end_of_word_suffix: z.literal("").nullish(),
    byte_fallback: z.literal(false).optional(),
    ignore_merges: z.boolean().optional(),
    vocab: z.unknown(),
    merges: z.unknown(),
  }),
});

/** What `tokenizer.json` holds, checked; `vocab` and `merges` too. */
export type TokenizerJson = z.infer<typeof tokenizerSchema>;

const token = z
  .union([z.string(), z.looseObject({ content: z.string() }).transform((named) => named.content)])
  .nullish();
const configSchema = z.looseObject({ eos_token: token, pad_token: token, bos_token: token, unk_token: token });

/** The tokens that `tokenizer_config.json` names. */
export type TokenizerConfig = z.infer<typeof configSchema>;

/** `text` as JSON, or an error that names the file. */
function parseFile(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TokenizerError(`${file} is not JSON: ${(error as Error).message}`);
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const { success, data, error } = schema.safeParse(value);
  if (!success) throw new TokenizerError(`${file}: ${z.prettifyError(error).slice(0, 2000)}`);
  return data;
}

/**
 * Reads `tokenizer.json`: byte-level BPE, as Qwen, Llama 3 and GPT-2 have it.
 *
 * @throws {TokenizerError} for anything else, or an inconsistent vocabulary
 */
export function readTokenizerJson(text: string, file: string): TokenizerJson {
  const json = check(tokenizerSchema, parseFile(text, file), file);
  checkVocabulary(json, file);
  const { pre_tokenizer: pre } = json;
  for (const step of "pretokenizers" in pre ? (pre.pretokenizers as z.infer<typeof onePreTokenizer>[]) : [pre]) {
    if (step.type === "Split" && "Regex" in (step as z.infer<typeof split>).pattern) {
      checkExpression(((step as z.infer<typeof split>).pattern as { Regex: string }).Regex, file);
    }
  }
  return json;
}

/** Reads `tokenizer_config.json`. */
export function readTokenizerConfig(text: string, file: string): TokenizerConfig {
  return check(configSchema, parseFile(text, file), file);
}

/** Everything a library would take on trust: ids are ids and differ, merges make tokens there are, no byte is lost. */
function checkVocabulary({ model, added_tokens: added }: TokenizerJson, file: string): void {
  const fail = (message: string): never => {
    throw new TokenizerError(`${file}: ${message}`);
  };
  const { vocab, merges } = model;
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) fail("model.vocab is not an object");
  if (!Array.isArray(merges)) return fail("model.merges is not a list");
  const ids = new Map<string, unknown>(Object.entries(vocab as object));
  const seen = new Map<unknown, string>();
  const claim = (content: string, value: unknown): void => {
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > largestId)
      fail(`the id of ${quote(content)} is ${quote(value)}, not a whole number up to ${largestId}`);
    const other = seen.get(value);
    if (other !== undefined && other !== content)
      fail(`${quote(other)} and ${quote(content)} have the same id ${String(value)}`);
    seen.set(value, content);
  };
  for (const [content, value] of ids) claim(content, value);
  for (const { content, id: value } of added) {
    if (ids.has(content) && ids.get(content) !== value) fail(`${quote(content)} has two ids`);
    claim(content, value);
  }
  const addedContents = new Set(added.map(({ content }) => content));
  for (const content of ids.keys()) {
    if (bytesOf(content) === undefined && !addedContents.has(content))
      fail(`the token ${quote(content)} is not in byte-level spelling`);
  }
  merges.forEach((merge: unknown, i) => {
    const pair: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== "string" || typeof right !== "string" || typeof merge !== typeof merges[0])
      return fail(`merge ${i} is ${quote(merge)}, not a pair of tokens`);
    for (const one of [left, right, left + right]) {
      if (!ids.has(one)) fail(`merge ${i}, ${quote(pair)}, needs the token ${quote(one)}, which the vocabulary lacks`);
    }
  });
  // 0xc0, 0xc1 and 0xf5 on never occur in UTF-8.
  for (const [byte, character] of characters.entries()) {
    if (!ids.has(character) && byte !== 0xc0 && byte !== 0xc1 && byte < 0xf5)
      fail(
        `the vocabulary has no token for the byte 0x${byte.toString(16).padStart(2, "0")}: text with it would be lost`,
      );
  }
}
