/** How large a value of a template would print. */

import type { RuntimeValue } from "@huggingface/jinja";
import { TemplateError } from "./error.ts";

/** The most characters in a value or a rendered prompt: a context of a million tokens holds about as many. */
const maxCharacters = 2 ** 21;

/** An element of a list counts as this many characters: in memory it is a value of its own. */
const elementWeight = 64;
const maxDepth = 64;

interface Size {
  /** Characters it would print as, elements at {@link elementWeight} each. */
  readonly weight: number;
  readonly depth: number;
}

const measured = new WeakMap<object, Size>();

/**
 * How large a value prints. Lists share their elements, so that a few doublings print as more than any memory holds:
 * whatever is over {@link maxCharacters} or 64 levels deep is refused when it is made, not when it is printed.
 */
export function weigh(value: RuntimeValue): number {
  return measure(value).weight;
}

function measure(value: RuntimeValue): Size {
  const content: unknown = value.value;
  if (typeof content === "string") return { weight: bounded(content.length), depth: 0 };
  if (typeof content !== "object" || content === null) return { weight: 8, depth: 0 };
  const known = measured.get(content);
  if (known) return known;
  const elements =
    content instanceof Map ? [...(content as Map<string, RuntimeValue>)] : (content as RuntimeValue[]).entries();
  let weight = 0;
  let depth = 0;
  for (const [key, element] of elements) {
    // A namespace can change after it was measured, and can hold itself.
    if (element.type === "NamespaceValue") throw new TemplateError("a namespace cannot be put into another value");
    const size = measure(element);
    weight = bounded(weight + elementWeight + size.weight + (typeof key === "string" ? key.length : 0));
    depth = Math.max(depth, size.depth + 1);
  }
  if (depth > maxDepth) throw new TemplateError(`a value is nested more than ${maxDepth} levels deep`);
  const size = { weight, depth };
  if (value.type !== "NamespaceValue") measured.set(content, size);
  return size;
}

function bounded(weight: number): number {
  if (weight > maxCharacters) throw new TemplateError(`a value is longer than ${maxCharacters} characters`);
  return weight;
}
