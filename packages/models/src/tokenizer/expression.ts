/** Whether the expression of a pre-tokenizer may run: JavaScript's engine has no time limit, so a bad one would hang. */

import { quote, TokenizerError } from "./error.ts";

const longest = 4096;
/** `\s*[\r\n]+` and its like have two. With three, one failing match over n characters takes n³ steps. */
const mostRepeats = 2;
/** An escape, a character class, what opens or closes a group, a repetition (also lazy or possessive), the next alternative. */
const part =
  /\\[\s\S]|\[\^?\]?(?:\\[\s\S]|[^\]\\])*\]|\(\?[a-z]*[:=!]|\(\?<[=!]|[*+][+?]?|\{\d*,\}[+?]?|\?[+?]?|[()|]/g;

/**
 * Refuses expressions that can take exponential or steep polynomial time: a group repeated without bound, a
 * back-reference, more than two unbounded repetitions in one alternative, more than 4096 characters.
 *
 * @throws {TokenizerError} that names `file` and what was found
 */
export function checkExpression(expression: string, file: string): void {
  const refuse = (why: string): never => {
    throw new TokenizerError(`${file}: the pre-tokenizer's expression ${quote(expression)} is refused: ${why}`);
  };
  if (expression.length > longest) refuse(`it is longer than ${longest} characters`);
  let repeats = 0;
  let previous = "";
  for (const [found] of expression.matchAll(part)) {
    if (/^\\[1-9k]/.test(found)) refuse("it refers back to a group");
    if (found === "|" || found === "(" || found.startsWith("(?")) repeats = 0;
    if (/^[*+{]/.test(found)) {
      if (previous === ")") refuse("it repeats a group without bound");
      if (++repeats > mostRepeats) refuse(`an alternative repeats without bound more than ${mostRepeats} times`);
    }
    previous = found;
  }
}
