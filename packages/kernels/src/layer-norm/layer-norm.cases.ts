import { type DType, print, type Shape, size, tensor, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { halfEpsilon } from "../shared/cases.ts";
import { layerNorm } from "./layer-norm.ts";

/** Primes, vectors of four, and the width of the vision tower of Qwen3-VL (1024). */
const shapes: readonly Shape[] = [[5], [3, 7], [2, 64], [2, 3, 257], [5, 1024]];

/** 1e-3 makes the variance as large as eps; a mean far from 0 must cost nothing. */
const spreads = [
  { scale: 1, mean: 30 },
  { scale: 1e-3, mean: 0 },
];

function one(shape: Shape, { scale, mean }: { scale: number; mean: number }, x: DType, gains: DType) {
  const half = halfEpsilon(x, gains);
  const width = shape.slice(-1);
  return {
    name: `${print(shape)} ${x} · ${gains}, ${mean} ± ${scale}`,
    inputs: (random: Random): [Tensor, Tensor, Tensor] => [
      tensor(
        random.device,
        random.normals(size(shape), scale).map((v) => v + mean),
        { shape, dtype: x },
      ),
      random.normal(width, 1, gains),
      random.normal(width, 1, gains),
    ],
    params: { eps: 1e-6 },
    tolerance: { forward: 2e-5 + half, vjp: 1e-4 + 2 * half },
    flops: 8 * size(shape),
    bytes: 8 * size(shape), // x read once, y written once; weight and bias stay in cache
  };
}

const near = { scale: 1, mean: 1 };
export const cases = defineCases(layerNorm, [
  ...shapes.flatMap((shape) => spreads.map((spread) => one(shape, spread, "f32", "f32"))),
  one([3, 36], near, "bf16", "bf16"),
  one([3, 13], near, "f16", "f32"),
]);
