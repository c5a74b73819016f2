/** The state dict inside a checkpoint, and the names of its tensors. */
import { WeightError } from "@rot/tensor";
import type { PickleValue, TorchTensor } from "./torch-pickle/values.ts";

/** Where trainers keep the state dict, in the order in which the reference looks. */
const wrappers = ["module", "model_state_dict", "model", "state_dict"];

/** The state dict of a checkpoint: under the first wrapper that holds a dict, or else the checkpoint itself. */
export function findStateDict(value: PickleValue): { value: PickleValue; wrapper: string | undefined } {
  if (value instanceof Map) {
    for (const wrapper of wrappers) {
      const inner = value.get(wrapper);
      if (inner instanceof Map) return { value: inner, wrapper };
    }
  }
  return { value, wrapper: undefined };
}

/** Prefixes that wrapping modules put before the names of the model. */
const prefixes = ["module.", "model.", "vision_encoder.mllm_model."];

/** A name without the first of the wrappers' prefixes that it has; at most one is cut, as the reference does. */
export function cleanName(name: string): string {
  const prefix = prefixes.find((candidate) => name.startsWith(candidate));
  return prefix === undefined ? name : name.slice(prefix.length);
}

/** Whether two names show the same elements of the same storage: tied weights. */
function sameView(a: TorchTensor, b: TorchTensor): boolean {
  const equal = (x: readonly number[], y: readonly number[]): boolean =>
    x.length === y.length && x.every((value, index) => value === y[index]);
  return (
    a.storage === b.storage &&
    a.dtype === b.dtype &&
    a.offset === b.offset &&
    equal(a.shape, b.shape) &&
    equal(a.stride, b.stride)
  );
}

/** Names of one tensor, the first one first. */
export interface TiedGroup {
  readonly names: readonly string[];
  readonly tensor: TorchTensor;
}

/**
 * Groups names by what they show.
 *
 * @throws {WeightError} when one name would stand for two different tensors
 */
export function groupTied(named: Iterable<{ readonly name: string; readonly tensor: TorchTensor }>): TiedGroup[] {
  const byName = new Map<string, TorchTensor>();
  const byStorage = new Map<TorchTensor["storage"], { names: string[]; tensor: TorchTensor }[]>();
  const groups: { names: string[]; tensor: TorchTensor }[] = [];
  for (const { name, tensor } of named) {
    const known = byName.get(name);
    if (known && sameView(known, tensor)) continue;
    if (known)
      throw new WeightError(
        `two different tensors would be called ${JSON.stringify(name)}; keep their names with --no_clean_keys`,
      );
    byName.set(name, tensor);
    const ofStorage = byStorage.get(tensor.storage) ?? [];
    byStorage.set(tensor.storage, ofStorage);
    // Tensors without elements show nothing, and so share nothing.
    const group = tensor.shape.includes(0) ? undefined : ofStorage.find((other) => sameView(other.tensor, tensor));
    if (group) {
      group.names.push(name);
      continue;
    }
    const made = { names: [name], tensor };
    ofStorage.push(made);
    groups.push(made);
  }
  return groups;
}
