/** What has been tuned on an adapter: for a kernel and a class of problems, the setting that was fastest. */
/** A file of choices that is damaged, or for something else. */
export class TuningError extends Error {
  override readonly name = "TuningError";
}

/** One value for each knob. */
export type KnobValues = Readonly<Record<string, number | boolean | string>>;

/** One choice of the tuner. */
export interface Tuned {
  /** The kernel's name. */
  readonly kernel: string;
  /** Hash of the kernel's WGSL at all its settings: what was measured for another text counts no more. */
  readonly source: string;
  /** dtypes, knobs that the caller named, and the class of the uniforms. */
  readonly problem: string;
  readonly setting: KnobValues;
  /** Time of the setting over that of the one used without tuning; 1 where they are the same. */
  readonly ratio: number;
}

/** What identifies an adapter and its driver. */
export type AdapterIdentity = Readonly<Record<"vendor" | "architecture" | "device" | "description", string>>;

/** Where choices outlive the process. */
export interface TuningStore {
  /** What is stored for an adapter; null when there is nothing. A file that is damaged is named in a notice, and ignored. */
  load(adapter: AdapterIdentity, notice: (line: string) => void): Promise<readonly Tuned[] | null>;
  /**
   * Adds choices to what is stored, in place of those for the same kernel, source and problem.
   *
   * @param forget  kernels of which entries with other sources are dropped
   * @returns       the file
   */
  save(adapter: AdapterIdentity, choices: readonly Tuned[], forget?: ReadonlySet<string>): Promise<string>;
}

/** `off`: settings are the kernels' own. `cached`: stored choices go first. `full`: and unknown calls may be collected. */
export const tuneModes = ["off", "cached", "full"] as const;
export type TuneMode = (typeof tuneModes)[number];

/** A call for which nothing is known, as a collector sees it. `T` is a tensor. */
export interface UnknownCall<T> {
  readonly kernel: string;
  readonly source: string;
  readonly problem: string;
  /** Every setting that the device can run; the first is the one used without tuning. */
  readonly settings: readonly KnobValues[];
  readonly tensors: Readonly<Record<string, T>>;
  /** Which of them are changed in place. */
  readonly updates: readonly string[];
  /** The format that values are rounded to on the way, where it is coarser than that of the results. */
  readonly precision?: "f16" | undefined;
  /** Records the call with other tensors like these, and gives its outputs. */
  run(tensors: Readonly<Record<string, T>>, setting: KnobValues): readonly T[];
}

/** The choices that a device follows. */
export class Tunings {
  readonly mode: TuneMode;
  readonly #byKernel = new Map<string, Map<string, KnobValues>>();
  /** Receives each call for which nothing is known, before it runs. Set by a tuner. */
  collect: ((call: UnknownCall<unknown>) => void) | undefined;

  constructor(mode: TuneMode = "off", choices: readonly Tuned[] = []) {
    this.mode = mode;
    this.add(choices);
  }

  /** Follows these choices from now on. */
  add(choices: readonly Tuned[]): void {
    for (const { kernel, source, problem, setting } of choices) {
      let known = this.#byKernel.get(kernel);
      if (!known) this.#byKernel.set(kernel, (known = new Map()));
      known.set(`${source} ${problem}`, { ...setting });
    }
  }

  /** How many choices it follows. */
  get size(): number {
    return [...this.#byKernel.values()].reduce((sum, known) => sum + known.size, 0);
  }

  /** Whether a call of this kernel is worth a look. */
  concerns(kernel: string): boolean {
    return this.collect !== undefined || this.#byKernel.has(kernel);
  }

  find(kernel: string, source: string, problem: string): KnobValues | undefined {
    return this.#byKernel.get(kernel)?.get(`${source} ${problem}`);
  }
}

/** Adds choices to others: the later of two for the same call stands. */
export function merged(
  old: readonly Tuned[],
  choices: readonly Tuned[],
  forget: ReadonlySet<string> = new Set(),
): readonly Tuned[] {
  const sources = new Set(choices.map(({ kernel, source }) => `${kernel} ${source}`));
  const isStale = ({ kernel, source }: Tuned): boolean => forget.has(kernel) && !sources.has(`${kernel} ${source}`);
  const all = [...old.filter((one) => !isStale(one)), ...choices];
  return [...new Map(all.map((one) => [`${one.kernel} ${one.source} ${one.problem}`, one])).values()];
}

/** The choices as the text of a file. */
export const printTunings = (adapter: AdapterIdentity, choices: readonly Tuned[]): string =>
  `${JSON.stringify({ format: 1, adapter, choices }, null, 1)}\n`;

/** Entries of one file: far more than there are kernels and classes. */
const MOST_CHOICES = 20_000;

/**
 * Reads {@link printTunings}. Whether a setting exists is asked when a kernel wants to use it.
 *
 * @throws {TuningError} when the text is something else, and says what
 */
export function parseTunings(text: string, adapter: AdapterIdentity): readonly Tuned[] {
  const fail = (why: string): never => {
    throw new TuningError(why);
  };
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (error) {
    return fail(`it is no JSON: ${(error as Error).message}`);
  }
  if (!isRecord(root) || root["format"] !== 1) return fail('its "format" is not 1');
  const { adapter: owner, choices } = root;
  if (!isRecord(owner) || Object.entries(adapter).some(([key, value]) => owner[key] !== value)) {
    return fail("it belongs to another adapter or driver");
  }
  if (!Array.isArray(choices) || choices.length > MOST_CHOICES) {
    return fail(`its "choices" are no array of at most ${MOST_CHOICES}`);
  }
  return choices.map((one: unknown, i): Tuned => {
    if (!isRecord(one)) return fail(`choices[${i}] is no object`);
    const { kernel, source, problem, setting, ratio } = one;
    if (typeof kernel !== "string" || typeof source !== "string" || typeof problem !== "string") {
      return fail(`choices[${i}] lacks a kernel, a source or a problem`);
    }
    if (typeof ratio !== "number") return fail(`choices[${i}] lacks its ratio`);
    if (
      !isRecord(setting) ||
      !Object.values(setting).every((v) => ["number", "boolean", "string"].includes(typeof v))
    ) {
      return fail(`choices[${i}] has a setting that is none`);
    }
    return { kernel, source, problem, setting: setting as KnobValues, ratio };
  });
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A hash of texts, 53 bits wide: to notice change, not malice. */
export function hashOf(...texts: readonly string[]): string {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (const text of texts) {
    for (let i = 0; i <= text.length; i++) {
      const code = i < text.length ? text.charCodeAt(i) : 0x10000;
      a = Math.imul(a ^ code, 0x9e3779b1);
      b = Math.imul(b ^ code, 0x5f356495);
    }
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return (a >>> 0).toString(16).padStart(8, "0") + (b >>> 0).toString(16).padStart(8, "0");
}
