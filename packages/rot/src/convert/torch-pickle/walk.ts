/** The tensors inside a checkpoint's value, under their paths. */
import type { Fail } from "./error.ts";
import { keyText, type PickleValue, TorchTensor, Tuple } from "./values.ts";

/** A tensor and where it stands: keys and indices joined by dots. */
export interface NamedTensor {
  readonly name: string;
  readonly tensor: TorchTensor;
}

const limits = { depth: 100, entries: 4_000_000, tensors: 200_000 };

/**
 * Every tensor in `root`, in order. A container that stands in several places is walked in each: a file of a few bytes
 * can nest lists to 2⁴⁰ places, so places, tensors and depth are limited.
 *
 * @param onOther called with what is no tensor and holds none
 */
export function tensorsIn(
  root: PickleValue,
  fail: Fail,
  onOther?: (name: string, value: PickleValue) => void,
): NamedTensor[] {
  const found: NamedTensor[] = [];
  /** Containers known to hold no tensor: they need not be walked again. */
  const barren = new Set<PickleValue>();
  let entries = 0;

  function children(value: PickleValue): Iterable<readonly [PickleValue, PickleValue]> | undefined {
    if (value instanceof Map) return value;
    if (value instanceof Tuple) return value.items.entries();
    if (value instanceof Set) return [...value].entries();
    return Array.isArray(value) ? value.entries() : undefined;
  }

  function walk(value: PickleValue, name: string, depth: number): void {
    if (value instanceof TorchTensor) {
      if (found.push({ name, tensor: value }) > limits.tensors) fail("limit", `more than ${limits.tensors} tensors`);
      return;
    }
    const inside = children(value);
    if (inside === undefined || (barren.has(value) && !onOther)) {
      if (name !== "") onOther?.(name, value);
      return;
    }
    if (depth > limits.depth)
      fail("limit", `containers more than ${limits.depth} deep in one another, or one in itself`);
    const before = found.length;
    for (const [key, item] of inside) {
      if (++entries > limits.entries) fail("limit", `more than ${limits.entries} values`);
      const part = keyText(key);
      walk(item, name === "" ? part : `${name}.${part}`, depth + 1);
    }
    if (found.length === before) barren.add(value);
  }

  walk(root, "", 0);
  return found;
}
