/** Text to token ids and back: byte-level BPE by `@huggingface/tokenizers`, with every file checked before it is used. */

import { Tokenizer as Library } from "@huggingface/tokenizers";
import { bytesOf } from "./bytes.ts";
import { quote, TokenizerError } from "./error.ts";
import { readTokenizerConfig, readTokenizerJson, type TokenizerConfig, type TokenizerJson } from "./schema.ts";
import { type DecodeOptions, TextStream, type TokenBytes } from "./text-stream.ts";

/** The contents of a checkpoint's tokenizer files. */
export interface TokenizerFiles {
  /** `tokenizer.json`. */
  readonly tokenizer: string;
  /** `tokenizer_config.json`, which names the end-of-text and padding tokens. */
  readonly config?: string;
  /** The folder, for messages. */
  readonly name?: string;
}

/** The tokens of Qwen's vision models that stand around and for pictures. */
export const visionTokens = {
  imagePad: "<|image_pad|>",
  videoPad: "<|video_pad|>",
  visionStart: "<|vision_start|>",
  visionEnd: "<|vision_end|>",
} as const;

/**
 * A byte-level BPE tokenizer, as transformers' fast tokenizer: added tokens are cut out of the text first, the rest is
 * normalized, split by the pre-tokenizer's expression, and each piece merged. Nothing is added at either end.
 *
 * @throws {TokenizerError} when a file is damaged or of a kind this class does not run (SentencePiece, WordPiece)
 * @see https://huggingface.co/docs/tokenizers
 */
export class Tokenizer implements TokenBytes {
  readonly #file: string;
  readonly #configFile: string;
  readonly #config: TokenizerConfig;
  #json: TokenizerJson;
  #library: Library;
  readonly #ids = new Map<string, number>();
  readonly #spellings = new Map<number, string>();
  readonly #added = new Map<number, Uint8Array>();
  readonly #special = new Set<number>();

  constructor(files: TokenizerFiles) {
    const at = files.name === undefined ? "" : `${files.name}/`;
    this.#file = `${at}tokenizer.json`;
    this.#configFile = `${at}tokenizer_config.json`;
    this.#json = readTokenizerJson(files.tokenizer, this.#file);
    this.#config = files.config === undefined ? {} : readTokenizerConfig(files.config, this.#configFile);
    for (const [spelling, id] of Object.entries(this.#json.model.vocab as Record<string, number>)) {
      this.#ids.set(spelling, id);
      this.#spellings.set(id, spelling);
    }
    this.#library = this.#build();
  }

  /** Takes the added tokens into the tables, and makes the library's tokenizer of them and the rest. */
  #build(): Library {
    for (const { content, id, special } of this.#json.added_tokens) {
      this.#ids.set(content, id);
      this.#spellings.set(id, content);
      this.#added.set(id, new TextEncoder().encode(content));
      if (special) this.#special.add(id);
    }
    try {
      return new Library(this.#json, {});
    } catch (error) {
      throw new TokenizerError(`${this.#file}: ${(error as Error).message}`);
    }
  }

  /** Tokens in all, the added ones included. A model's embedding may have more rows. */
  get size(): number {
    return this.#spellings.size;
  }

  /** Token ids of `text`; [] for "". Half surrogate pairs become U+FFFD. */
  encode(text: string): number[] {
    return text === "" ? [] : this.#library.encode(text.toWellFormed()).ids;
  }

  /** The text of `ids`; ids without a token are left out, and each invalid part of UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    return stream.push(ids) + stream.end();
  }

  /** Decodes tokens as they come. */
  stream(options: DecodeOptions = {}): TextStream {
    return new TextStream(this, options);
  }

  /** How the vocabulary spells each token of `ids`: byte-level, `Ġ` for a space. @throws {TokenizerError} when there is no such token */
  tokens(ids: readonly number[]): string[] {
    return ids.map((id) => {
      const spelling = this.#spellings.get(id);
      if (spelling === undefined) throw new TokenizerError(`${this.#file} has no token with the id ${id}`);
      return spelling;
    });
  }

  /** The id of a token by its spelling. @throws {TokenizerError} that names the file and the token it lacks */
  id(token: string): number {
    const id = this.#ids.get(token);
    if (id === undefined) throw new TokenizerError(`${this.#file} has no token ${quote(token)}`);
    return id;
  }

  /** Whether there is a token of this spelling. */
  has(token: string): boolean {
    return this.#ids.has(token);
  }

  bytes(id: number): Uint8Array | undefined {
    const added = this.#added.get(id);
    if (added) return added;
    const spelling = this.#spellings.get(id);
    return spelling === undefined ? undefined : bytesOf(spelling);
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  /** The id of the token that ends a turn, `eos_token` of tokenizer_config.json. @throws {TokenizerError} when none is named */
  get eosId(): number {
    return this.#named("eos_token");
  }

  /** The id of the token that fills up a batch, `pad_token` of tokenizer_config.json. @throws {TokenizerError} when none is named */
  get padId(): number {
    return this.#named("pad_token");
  }

  /** The tokens that tokenizer_config.json names, as chat templates see them. */
  get named(): Readonly<Record<string, string>> {
    const names = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;
    return Object.fromEntries(names.flatMap((name) => (this.#config[name] ? [[name, this.#config[name]]] : [])));
  }

  #named(name: "eos_token" | "pad_token"): number {
    const token = this.#config[name];
    if (!token) throw new TokenizerError(`${this.#configFile} names no ${name}`);
    return this.id(token);
  }

  /**
   * Adds ordinary (not special) tokens, as `tokenizer.add_tokens` of transformers does: one that the vocabulary has keeps
   * its id, a new one gets the id after the last. The model's embedding needs a row for each.
   *
   * @returns how many were not added tokens before
   */
  addTokens(tokens: readonly string[]): number {
    const added = [...this.#json.added_tokens];
    const known = new Set(added.map(({ content }) => content));
    let last = added.reduce((largest, { id }) => Math.max(largest, id), this.#vocabularySize - 1);
    for (const content of tokens) {
      if (content === "") throw new TokenizerError("addTokens: a token cannot be empty");
      if (known.has(content)) continue;
      known.add(content);
      const id = this.#ids.get(content) ?? ++last;
      added.push({ id, content, lstrip: false, rstrip: false, normalized: true, special: false });
    }
    const count = added.length - this.#json.added_tokens.length;
    if (count > 0) {
      this.#json = { ...this.#json, added_tokens: added };
      this.#library = this.#build();
    }
    return count;
  }

  /** Tokens of the model alone. */
  get #vocabularySize(): number {
    return Object.keys(this.#json.model.vocab as object).length;
  }
}
