/** Which modules a LoRA configuration means, by PEFT's rules. */
import { UsageError } from "@rot/tensor";

/** Names (the last parts of a path), one regular expression for whole paths, or `all-linear`. */
export type Targets = string | readonly string[];

/** What a pattern of {@link Targets} may not be longer than. */
const LONGEST = 1000;
/** Repetitions in one alternative of a target or of a key: each can multiply the time of a search by a path's length. */
const MOST_REPETITIONS = { target: 4, key: 1 } as const;

/**
 * Whether a module is meant.
 *
 * - a list: the path is one of the names, or ends with a dot and one of them
 * - a text: it is a regular expression that the whole path matches; `all-linear` means every linear but the output matrix
 *
 * @throws {UsageError} for an expression that is malformed or could take for ever
 * @see BaseTuner.check_target_module_exists in PEFT, tuners/tuners_utils.py
 */
export function isTarget(path: string, targets: Targets): boolean {
  if (targets === "all-linear") return !/(^|\.)lm_head$/.test(path);
  if (typeof targets === "string") return compile(`^(?:${targets})$`, targets, MOST_REPETITIONS.target).test(path);
  return targets.some((name) => path === name || path.endsWith(`.${name}`));
}

/**
 * The value that a `rank_pattern` or `alpha_pattern` gives a module; undefined when none of its keys matches. A key is an
 * expression for the last parts of a path.
 *
 * @see get_pattern_key in PEFT, utils/other.py
 */
export function patternValue(patterns: ReadonlyMap<string, number>, path: string): number | undefined {
  for (const [key, value] of patterns)
    if (compile(`^(?:.*\\.)?(?:${key})$`, key, MOST_REPETITIONS.key).test(path)) return value;
  return undefined;
}

/** Configurations come from files, so an expression must end its search soon whatever it is. */
function compile(source: string, written: string, most: number): RegExp {
  const refuse = (why: string): never => {
    const shown = JSON.stringify(written.length > 80 ? `${written.slice(0, 80)}…` : written);
    throw new UsageError(`LoRA: the module pattern ${shown} ${why}; name the modules in a list instead`);
  };
  if (written.length > LONGEST) refuse(`is longer than ${LONGEST} characters`);
  // Without what is escaped, in brackets, or begins a group, each of these characters repeats something.
  const bare = written
    .replaceAll(/\\./gs, "_")
    .replaceAll(/\[[^\]]*\]/g, "_")
    .replaceAll("(?", "(");
  if (/\)(?:[*+]|\{)/.test(bare)) refuse("repeats a group");
  for (const alternative of alternatives(bare)) {
    const repetitions = alternative.match(/(?:[*+?]|\{[\d,]*\})\??/g) ?? [];
    if (repetitions.length > most) refuse(`repeats more than ${most} things`);
  }
  try {
    // With this flag an escape that only Python knows is an error, and not another expression.
    return new RegExp(source, "u");
  } catch {
    return refuse("is no regular expression that JavaScript and Python share");
  }
}

/** What the bars outside of every group divide an expression into. */
function alternatives(bare: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const character of bare) {
    if (character === "(") depth++;
    if (character === ")") depth--;
    if (character === "|" && depth === 0) parts.push("");
    else parts.push(`${parts.pop()}${character}`);
  }
  return parts;
}
