/** Tokens in, text out, as soon as its characters are whole. */

/** What a stream asks of its tokenizer. */
export interface TokenBytes {
  /** The UTF-8 bytes of a token, also part of a character; undefined when there is no such token. */
  bytes(id: number): Uint8Array | undefined;
  /** Whether `skipSpecialTokens` leaves the token out. */
  isSpecial(id: number): boolean;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leave out tokens marked special, such as `<|im_end|>`; not `<think>`, which is an ordinary added token. */
  readonly skipSpecialTokens?: boolean;
}

/**
 * Decodes tokens one by one, for showing text while it is made. What `push` and `end` return, joined, is what `decode`
 * makes of all ids at once; a character whose bytes lie in several tokens comes with the last of them.
 */
export class TextStream {
  readonly #tokens: TokenBytes;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokens: TokenBytes, options: DecodeOptions = {}) {
    this.#tokens = tokens;
    this.#skipSpecial = options.skipSpecialTokens ?? false;
  }

  /** The text that these tokens complete; "" while a character is still in parts. */
  push(ids: number | readonly number[]): string {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for (const id of typeof ids === "number" ? [ids] : ids) {
      const bytes = this.#skipSpecial && this.#tokens.isSpecial(id) ? undefined : this.#tokens.bytes(id);
      if (!bytes) continue;
      pieces.push(bytes);
      length += bytes.length;
    }
    const joined = new Uint8Array(length);
    let at = 0;
    for (const bytes of pieces) {
      joined.set(bytes, at);
      at += bytes.length;
    }
    return this.#decoder.decode(joined, { stream: true });
  }

  /** What is left: U+FFFD when a character was never completed. The stream can be used anew. */
  end(): string {
    return this.#decoder.decode();
  }
}
