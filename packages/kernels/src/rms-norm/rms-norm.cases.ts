import { type DType, print, type Shape, size, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { halfEpsilon } from "../shared/cases.ts";
import { rmsNorm } from "./rms-norm.ts";

/** Primes, vectors of four, the q/k-norm of Qwen3 (128), and the width of Qwen3-VL-4B (2560). */
const shapes: readonly Shape[] = [[5], [3, 7], [2, 64], [2, 3, 257], [1, 5, 4, 128], [5, 2560]];

/** 1e-3 makes mean(x²) as large as eps, so that a kernel which forgets eps cannot pass. */
const scales = [1, 1e-3];

function one(shape: Shape, scale: number, x: DType, weight: DType) {
  const half = halfEpsilon(x, weight);
  return {
    name: `${print(shape)} ${x} · ${weight}, scale ${scale}`,
    inputs: (random: Random): [Tensor, Tensor] => [
      random.normal(shape, scale, x),
      random.normal(shape.slice(-1), 1, weight),
    ],
    params: { eps: 1e-6 },
    tolerance: { forward: 1e-5 + half, vjp: 1e-4 + 2 * half },
    flops: 4 * size(shape),
    bytes: 8 * size(shape), // x read once, y written once; weight stays in cache
  };
}

export const cases = defineCases(rmsNorm, [
  ...shapes.flatMap((shape) => scales.map((scale) => one(shape, scale, "f32", "f32"))),
  one([3, 36], 1, "bf16", "bf16"),
  one([3, 13], 1, "f16", "f32"),
]);
