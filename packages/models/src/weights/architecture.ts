/** Which parameters a model has, learnt from its builder without a device and without weights. */
import { type Device, sameShape, type Shape, Tensor, UsageError } from "@rot/tensor";
import { type KeyDifferences, type MisshapenKey, WeightsError } from "./error.ts";
import { viewOf, type Weights } from "./weights.ts";

/** The parameters of a model, in the order in which its builder asks for them. */
export interface Architecture {
  /** Shapes by state-dict key. */
  readonly parameters: ReadonlyMap<string, Shape>;
  /** The linears by path, with the shape [outputs, inputs] of their weight: what LoRA can go on. */
  readonly linears: ReadonlyMap<string, readonly [outputs: number, inputs: number]>;
}

/**
 * Runs a model's builder on a view that gives out shapes without memory, and notes what it asks for. A module whose
 * builder asks for an adapter is a linear.
 *
 * @param build  a builder as {@link Weights} wants it; it finds no optional parameter
 * @throws {UsageError} when the builder uses the device or a value, or asks for one key in two shapes
 */
export function recordArchitecture(build: (weights: Weights) => unknown): Architecture {
  const parameters = new Map<string, Shape>();
  const adapted = new Set<string>();
  build(
    viewOf({
      get device(): Device {
        throw new UsageError(
          "recordArchitecture: the builder uses the device, which it may do only in the model's calls",
        );
      },
      has: () => false,
      get(key, shape) {
        const known = parameters.get(key);
        if (known && !sameShape(known, shape)) {
          throw new UsageError(
            `recordArchitecture: the builder wants ${key} as [${known.join(", ")}] and [${shape.join(", ")}]`,
          );
        }
        parameters.set(key, shape);
        return new Tensor({ shape, dtype: "f32" }, null, `${key} stands for its shape only`);
      },
      adapter(path) {
        adapted.add(path);
        return null;
      },
    }),
  );
  const linears = new Map<string, readonly [number, number]>();
  for (const path of adapted) {
    const [outputs, inputs, ...more] = parameters.get(`${path}.weight`) ?? [];
    if (outputs === undefined || inputs === undefined || more.length > 0) {
      throw new UsageError(`recordArchitecture: ${path} asks for an adapter, but has no weight [outputs, inputs]`);
    }
    linears.set(path, [outputs, inputs]);
  }
  return { parameters, linears };
}

/** Tables that old checkpoints store and every model computes. */
const computed = /(^|\.)rotary(_pos)?_emb\.(inv_freq|original_inv_freq)$/;

/**
 * How the keys of a checkpoint differ from those of a model.
 *
 * @param found    shapes by key
 * @param ignored  keys that the checkpoint may hold though the model does not read them, such as the output matrix of a
 *   model that ties it to its embedding; rotary tables always may
 */
export function compareKeys(
  { parameters }: Architecture,
  found: ReadonlyMap<string, Shape>,
  ignored: readonly string[] = [],
): KeyDifferences {
  const misshapen: MisshapenKey[] = [];
  for (const [key, expected] of parameters) {
    const shape = found.get(key);
    if (shape && !sameShape(shape, expected)) misshapen.push({ key, found: shape, expected });
  }
  return {
    missing: [...parameters.keys()].filter((key) => !found.has(key)),
    unexpected: [...found.keys()].filter(
      (key) => !parameters.has(key) && !ignored.includes(key) && !computed.test(key),
    ),
    misshapen,
  };
}

/**
 * Passes when the keys of a checkpoint are those of a model.
 *
 * @param where  what the checkpoint is called in the message
 * @throws {WeightsError} one that lists every missing, unexpected and mis-shaped key
 * @see compareKeys for the arguments
 */
export function checkKeys(
  architecture: Architecture,
  found: ReadonlyMap<string, Shape>,
  where: string,
  ignored: readonly string[] = [],
): void {
  const differences = compareKeys(architecture, found, ignored);
  const count = differences.missing.length + differences.unexpected.length + differences.misshapen.length;
  if (count === 0) return;
  throw new WeightsError(
    `${where}: its tensors are not those of the model that its config describes (${found.size} found, ${architecture.parameters.size} expected)`,
    differences,
  );
}
