/** Text as it comes, up to the first of some strings that end it. */

/**
 * Passes text on, but holds back what may be the beginning of a stop string until it is known. The stop string itself and
 * whatever follows it are left out.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";
  #isStopped = false;

  /** @param stops  empty ones are ignored */
  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Whether a stop string has come. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** The text that is certain now. */
  push(text: string): string {
    if (this.#isStopped) return "";
    this.#held += text;
    const found = this.#found();
    this.#isStopped = found >= 0;
    const certain = this.#isStopped ? found : this.#held.length - this.#uncertain();
    const passed = this.#held.slice(0, certain);
    this.#held = this.#isStopped ? "" : this.#held.slice(certain);
    return passed;
  }

  /** What was held back, once nothing more comes. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** Where the stop string begins that is complete first, or the longest of those; -1 when none is. */
  #found(): number {
    let [begin, end] = [-1, Infinity];
    for (const stop of this.#stops) {
      const at = this.#held.indexOf(stop);
      const isFirst = at + stop.length < end || (at + stop.length === end && at < begin);
      if (at >= 0 && isFirst) [begin, end] = [at, at + stop.length];
    }
    return begin;
  }

  /** Length of the longest end of the text that a stop string begins with. */
  #uncertain(): number {
    const longest = (stop: string): number => {
      for (let length = Math.min(stop.length - 1, this.#held.length); length > 0; length--) {
        if (stop.startsWith(this.#held.slice(-length))) return length;
      }
      return 0;
    };
    return Math.max(0, ...this.#stops.map(longest));
  }
}
