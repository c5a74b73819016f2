/** HTML in which no text can become markup. */

/** Markup that is safe to write as it is. Made by {@link html}; text is not, until it is escaped. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What may stand between the parts of a template. */
export type Content = string | number | Markup | readonly Content[];

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

/** A text as HTML that shows it, between tags and within quoted attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"'`]/g, (character) => entities[character]!);

/** A template whose own text is markup and whose contents are escaped, but for markup: html`<b>${name}</b>`. */
export function html(parts: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  return new Markup(parts.reduce((before, part, i) => before + print(contents[i - 1]!) + part));
}

function print(content: Content): string {
  if (content instanceof Markup) return content.text;
  if (typeof content === "string" || typeof content === "number") return escapeHtml(String(content));
  return content.map(print).join("");
}

/**
 * A text with the characters that cannot be seen made visible: controls as ␀, and those that turn the direction of
 * text by their numbers. Line breaks and tabs stay.
 */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu, (character) => {
    const code = character.charCodeAt(0);
    if (character === "\n" || character === "\t") return character;
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}
