/** The tiny model's vocabulary as the files that tokenizers are read from. */
import { spellings } from "./vocabulary.ts";

/** Characters by which byte-level vocabularies spell the 256 bytes: themselves where they can be seen, else from U+0100 on. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isSeen = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(isSeen ? byte : next++);
  });
}

/**
 * `tokenizer.json`: byte-level, without merges. Bytes that the model has no token for have ids beyond its embedding, so that
 * a text with them is refused where it is embedded.
 */
export function tinyTokenizer(): object {
  const isMark = (spelling: string): boolean => spelling.length > 1;
  const characters = byteCharacters();
  const spelt = new Map(
    spellings.map((spelling, id) => [isMark(spelling) ? spelling : characters[spelling.charCodeAt(0)], id]),
  );
  let next = spellings.length;
  const vocab = Object.fromEntries(characters.map((character) => [character, spelt.get(character) ?? next++]));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  const added = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: spellings.flatMap((content, id) => (isMark(content) ? [{ id, content, ...added }] : [])),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
}

/** `tokenizer_config.json`. */
export const tokenizerConfig = {
  bos_token: "<q>",
  eos_token: "<eos>",
  pad_token: "<pad>",
  tokenizer_class: "PreTrainedTokenizerFast",
} as const;
