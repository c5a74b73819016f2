import { type DType, print, type Shape, size, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { halfEpsilon } from "../shared/cases.ts";
import { swigluOp } from "./swiglu.ts";

/** One element, primes, a workgroup of vectors and one element around it, and the width of a small Qwen3. */
const shapes: readonly Shape[] = [[], [1], [3, 7], [255], [256], [257], [4, 260], [2, 3072]];

/** Large numbers reach where silu is flat, on both sides. */
const scales = [1, 20];

function one(shape: Shape, scale: number, gate: DType, up: DType) {
  const half = halfEpsilon(gate, up);
  return {
    name: `${print(shape)} ${gate} · ${up}, scale ${scale}`,
    inputs: (random: Random): [Tensor, Tensor] => [random.normal(shape, scale, gate), random.normal(shape, 1, up)],
    params: undefined,
    // The reference rounds in between.
    tolerance: { forward: 1e-5 + 2 * half, vjp: 1e-5 + 4 * half },
    flops: 5 * size(shape),
    bytes: 12 * size(shape),
  };
}

export const cases = defineCases(swigluOp, [
  ...shapes.flatMap((shape) => scales.map((scale) => one(shape, scale, "f32", "f32"))),
  one([3, 36], 1, "bf16", "bf16"),
  one([3, 13], 1, "f16", "f32"),
  one([3, 12], 1, "f32", "f16"),
  one([5], 1, "f16", "f16"),
]);
