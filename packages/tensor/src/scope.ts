/** Scopes: tensors made inside one are freed at its end, but for what it returns, keeps or has on the tape. */
import { UsageError } from "./errors.ts";

/** What a scope can own. */
export interface Owned {
  owner: Scope | null;
  dispose(): void;
}

export class Scope {
  readonly owned: Owned[] = [];
  readonly parent: Scope | null;

  constructor(parent: Scope | null) {
    this.parent = parent;
  }
}

let current: Scope | null = null;

/** Called for a tensor that no scope owns any more: the garbage collector frees it instead. */
let onEscape: (owned: Owned) => void = () => {};

/** Lets `tensor.ts` say how a tensor outside every scope is watched. */
export function watchEscapes(watch: (owned: Owned) => void): void {
  onEscape = watch;
}

/** Gives a new tensor to the innermost scope. */
export function adopt(tensor: Owned, scope: Scope | null = current): void {
  tensor.owner = scope;
  if (scope) scope.owned.push(tensor);
  else onEscape(tensor);
}

/** Every tensor inside a value: itself, or in arrays, maps, sets and plain objects, at any depth. */
function tensorsIn(value: unknown): readonly Owned[] {
  // Nearly always it is one tensor, or nothing.
  if (typeof value !== "object" || value === null) return [];
  if (isOwned(value)) return [value];
  const found: Owned[] = [];
  const seen = new Set<unknown>();
  const visit = (inner: unknown): void => {
    if (typeof inner !== "object" || inner === null || seen.has(inner)) return;
    seen.add(inner);
    if (isOwned(inner)) found.push(inner);
    else if (Array.isArray(inner) || inner instanceof Set || inner instanceof Map) {
      for (const item of inner.values()) visit(item);
    } else if (isPlain(inner)) Object.values(inner).forEach(visit);
  };
  visit(value);
  return found;
}

const isOwned = (value: object): value is Owned => "owner" in value && "dispose" in value;

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * Runs `f` and frees the tensors it made, except those it returns (in arrays, maps, sets and plain objects too), those
 * given to {@link keep}, and what the tape holds for a later backward.
 *
 * @throws {UsageError} when `f` is asynchronous: other code would run, and make tensors, while it waits
 */
export function scope<T>(f: () => T): T {
  const own = new Scope(current);
  current = own;
  let result: T | undefined;
  try {
    result = f();
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new UsageError(
        "scope: its function is asynchronous; do the waiting outside, and return the tensors to wait for",
      );
    }
    return result;
  } finally {
    current = own.parent;
    const kept = result instanceof Promise ? [] : tensorsIn(result);
    const keeps = kept.length > 8 ? new Set(kept) : undefined;
    for (const tensor of own.owned) {
      if (tensor.owner !== own) continue;
      if (keeps ? keeps.has(tensor) : kept.includes(tensor)) adopt(tensor, own.parent);
      else tensor.dispose();
    }
  }
}

/** Takes tensors (also inside arrays, maps, sets and plain objects) out of every scope: they live until disposed. */
export function keep<T>(value: T): T {
  for (const tensor of tensorsIn(value)) adopt(tensor, null);
  return value;
}
