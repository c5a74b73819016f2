/** Byte-level spelling: every byte is written as one printable character, as GPT-2's vocabulary does. */

/** The character of each byte. Printable Latin-1 stands for itself; the rest follows from U+0100 on, in order. */
export const characters: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

const bytes: ReadonlyMap<string, number> = new Map(characters.map((character, byte) => [character, byte]));

/** The bytes that `spelling` stands for; undefined when it has a character that spells none. */
export function bytesOf(spelling: string): Uint8Array | undefined {
  const result = new Uint8Array(spelling.length);
  for (let i = 0; i < spelling.length; i++) {
    const byte = bytes.get(spelling[i] as string);
    if (byte === undefined) return undefined;
    result[i] = byte;
  }
  return result;
}
