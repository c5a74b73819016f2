/** Whether tensors that are changed in place would change each other. */
import type { Storage } from "../storage.ts";
import type { Tensor } from "../tensor.ts";

/** The first tensor that shares an element with one before it, by its number; -1 when none does. */
export function firstOverlap(tensors: readonly Tensor[]): number {
  const seen = new Map<Storage, Tensor[]>();
  return tensors.findIndex((tensor) => {
    const { storage, offset, bytes } = tensor;
    const before = seen.get(storage);
    if (!before) seen.set(storage, [tensor]);
    else if (before.some((one) => one.offset < offset + bytes && offset < one.offset + one.bytes)) return true;
    else before.push(tensor);
    return false;
  });
}
