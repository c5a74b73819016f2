/** What can be wrong with a tokenizer's files, or with what is asked of it. */

/** A tokenizer file that is damaged, hostile or of a kind we do not run, or a token that it lacks. Names the file. */
export class TokenizerError extends Error {
  override readonly name: string = "TokenizerError";
}

/** `value` as JSON text for a message, cut at 80 characters, since files may be hostile. */
export function quote(value: unknown): string {
  const text = typeof value === "object" && value !== null ? shallow(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** A list's first elements; nothing below, since nesting may be deeper than the stack. */
function shallow(value: object): string {
  if (!Array.isArray(value)) return "an object";
  return `[${value
    .slice(0, 4)
    .map((one) => (typeof one === "object" ? "…" : JSON.stringify(one)))
    .join(",")}]`;
}
