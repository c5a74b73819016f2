/** What can go wrong with a generation besides the device. */

/** A prompt that leaves no room in the context of its model. */
export class ContextError extends Error {
  override readonly name: string = "ContextError";
}

/** Scores that are no numbers: a damaged checkpoint, or values beyond its dtype. */
export class NumericError extends Error {
  override readonly name: string = "NumericError";
}
