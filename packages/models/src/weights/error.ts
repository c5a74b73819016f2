/** What can be wrong with the weights of a model. */
import { type Shape, WeightError } from "@rot/tensor";

/** One parameter whose shape is not what the model asks for. */
export interface MisshapenKey {
  readonly key: string;
  readonly found: Shape;
  readonly expected: Shape;
}

/** The keys in which a checkpoint and a model differ. */
export interface KeyDifferences {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly MisshapenKey[];
}

/** Keys of one kind that a message writes out; the lists of the error hold all of them. */
const SHOWN = 20;

/** A checkpoint that does not fit its model, or that a model cannot be read from. The lists are empty where they are not the matter. */
export class WeightsError extends WeightError implements KeyDifferences {
  override readonly name: string = "WeightsError";
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly MisshapenKey[];

  constructor(message: string, { missing = [], unexpected = [], misshapen = [] }: Partial<KeyDifferences> = {}) {
    const lists = [
      ...list("missing", missing.map(shown)),
      ...list("unexpected", unexpected.map(shown)),
      ...list(
        "of another shape",
        misshapen.map(({ key, found, expected }) => `${shown(key)}: ${axes(found)}, expected ${axes(expected)}`),
      ),
    ];
    super([message, ...lists].join("\n"));
    this.missing = missing;
    this.unexpected = unexpected;
    this.misshapen = misshapen;
  }
}

/** `name` in quotes for a message, at most 80 characters of it, control characters escaped: files may be hostile. */
export const quote = (name: string): string => JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);

/** A key as it is, unless it is none that a model would have. */
const shown = (key: string): string => (/^[\w.-]{1,200}$/.test(key) ? key : quote(key));

/** A shape, at most 8 axes of it. */
const axes = (shape: Shape): string => `[${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`;

function list(what: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > SHOWN ? [`    and ${lines.length - SHOWN} more`] : [];
  return [`  ${what} (${lines.length}):`, ...lines.slice(0, SHOWN).map((line) => `    ${line}`), ...more];
}
