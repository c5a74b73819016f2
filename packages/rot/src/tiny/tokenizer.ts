/** The tiny model's vocabulary as the files that tokenizers are read from. */
import { marks, spellings } from "./vocabulary.ts";

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
  const added = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    // What is special is left out of texts; `<ans>` is what parts an answer from the steps before it.
    added_tokens: spellings.flatMap((content, id) =>
      isMark(content) ? [{ id, content, ...added, special: id !== marks.answer }] : [],
    ),
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

/**
 * A question, and then `<cot>`, which the steps follow as text, unless thinking in text is switched off as for Qwen3: for
 * latents or for an answer at once.
 */
const chatTemplate = [
  "{%- for message in messages if message.role == 'user' -%}<q>",
  "{%- if message.content is string -%}{{ message.content }}",
  "{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}",
  "{%- endfor -%}",
  "{%- if add_generation_prompt and (enable_thinking is not defined or enable_thinking) -%}<cot>{%- endif -%}",
].join("");

/** `tokenizer_config.json`. */
export const tokenizerConfig = {
  bos_token: "<q>",
  chat_template: chatTemplate,
  eos_token: "<eos>",
  pad_token: "<pad>",
  tokenizer_class: "PreTrainedTokenizerFast",
} as const;
