/** A view of a checkpoint's tensors under one path, from which a model is built. */
import { type Device, sameShape, type Shape, type Tensor } from "@rot/tensor";
import { WeightsError } from "./error.ts";

/**
 * A place in a checkpoint. A model is a function of it: the builder asks for its parameters by their names and closes over
 * them. It does nothing with them and does not touch the device until the model is called, so that the same builder also
 * tells which parameters the model has (`recordArchitecture`).
 */
export interface Weights {
  /** `model.language_model.layers.0.self_attn.q_proj`; empty at the root. */
  readonly path: string;
  readonly device: Device;
  /** The place `name` below this one; names may hold dots. */
  at(name: string | number): Weights;
  /**
   * Whether `${path}.${name}` is a tensor of the checkpoint: for what the architecture leaves open. What the configuration
   * decides is asked for with {@link get}, so that a checkpoint that lacks it is an error.
   */
  has(name: string): boolean;
  /**
   * The parameter `${path}.${name}`.
   *
   * @throws {WeightsError} naming the key, and the shape found and expected
   */
  get(name: string, shape: Shape): Tensor;
  /** What is added to the output of the linear at this path (LoRA), if anything. Whoever builds a linear asks; nobody else does. */
  readonly adapter: ((x: Tensor) => Tensor) | null;
}

/** What a view looks into: keys are whole. */
export interface WeightsSource {
  readonly device: Device;
  has(key: string): boolean;
  get(key: string, shape: Shape): Tensor;
  /** The adapter of the linear at `path`. */
  adapter(path: string): ((x: Tensor) => Tensor) | null;
}

/** The view of a source at a path. */
export function viewOf(source: WeightsSource, path = ""): Weights {
  const under = (name: string | number): string => (path === "" ? String(name) : `${path}.${name}`);
  return {
    path,
    get device() {
      return source.device;
    },
    at: (name) => viewOf(source, under(name)),
    has: (name) => source.has(under(name)),
    get: (name, shape) => source.get(under(name), shape),
    get adapter() {
      return source.adapter(path);
    },
  };
}

/** The view of named tensors, which stay the caller's. */
export function weightsOf(tensors: ReadonlyMap<string, Tensor>, device: Device): Weights {
  return viewOf({
    device,
    has: (key) => tensors.has(key),
    get(key, shape) {
      const found = tensors.get(key);
      if (!found) throw new WeightsError(`weights: there is no ${key}`, { missing: [key] });
      if (!sameShape(found.shape, shape)) {
        throw new WeightsError(`weights: ${key} has another shape than the model's`, {
          misshapen: [{ key, found: found.shape, expected: shape }],
        });
      }
      return found;
    },
    adapter: () => null,
  });
}
