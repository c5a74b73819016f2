/** What rendering throws about the files it is given. */

/** A font that is damaged, hostile, or lacks what drawing needs. */
export class FontError extends Error {
  override readonly name: string = "FontError";
}
