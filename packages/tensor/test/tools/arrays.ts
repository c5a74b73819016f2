/** Arrays of any rank on the host, moved about by their definition: what tests compare the device with. */
import fc from "fast-check";
import type { DType } from "../../src/dtype.ts";
import type { Device } from "../../src/gpu/device.ts";
import { tensor } from "../../src/ops/create.ts";
import { type Shape, size, strides } from "../../src/shape.ts";
import type { Tensor } from "../../src/tensor.ts";

/** An array on the host. */
export interface Plain {
  readonly shape: Shape;
  readonly values: readonly number[];
}

/** Every index of a shape, in row-major order. */
export function* indicesOf(shape: Shape): Generator<number[]> {
  const index = shape.map(() => 0);
  for (let left = size(shape); left > 0; left--) {
    yield [...index];
    for (let d = shape.length - 1; d >= 0; d--) {
      index[d] = (index[d] as number) + 1;
      if ((index[d] as number) < (shape[d] as number)) break;
      index[d] = 0;
    }
  }
}

/** The element at an index. */
export function at({ shape, values }: Plain, index: readonly number[]): number {
  const steps = strides(shape);
  return values[index.reduce((sum, i, d) => sum + i * (steps[d] as number), 0)] as number;
}

/** The array whose element at each index is `f` of it. */
export const build = (shape: Shape, f: (index: readonly number[]) => number): Plain => ({
  shape,
  values: Array.from(indicesOf(shape), f),
});

/** Elements 1, 2, 3, … so that every move shows; bools alternate. Exact in every dtype up to 256 elements. */
export const counting = (shape: Shape, dtype: DType = "f32"): Plain => ({
  shape,
  values: Array.from({ length: size(shape) }, (_, i) => (dtype === "bool" ? i % 2 : i + 1)),
});

/** The same on the device. */
export const upload = (device: Device, { shape, values }: Plain, dtype: DType = "f32"): Tensor =>
  tensor(device, Float64Array.from(values), { shape, dtype });

/** Shapes of up to `rank` axes, with 0, 1 and primes among their lengths. */
export const shapes = (rank = 4): fc.Arbitrary<number[]> =>
  fc.array(fc.constantFrom(0, 1, 2, 3, 5), { maxLength: rank }).filter((shape) => size(shape) <= 250);

/** Every dtype, f32 a little more often. */
export const anyDtype = fc.constantFrom<DType>("f32", "f32", "f16", "bf16", "i32", "u32", "bool");
