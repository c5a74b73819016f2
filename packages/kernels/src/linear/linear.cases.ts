import { type DType, print, type Shape, size, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import type { Activation } from "@rot/tensor/kernel";
import { halfEpsilon } from "../shared/cases.ts";
import { linearOp } from "./linear.ts";

interface Problem {
  readonly x: Shape;
  readonly N: number;
  readonly bias?: boolean;
  readonly activation?: Activation;
  readonly residual?: boolean;
  readonly dtypes?: readonly [x: DType, weight: DType];
}

/** One row and few, as in decoding; primes; around a tile of 32 rows and a panel of 32 columns; no rows, no inputs. */
const problems: readonly Problem[] = [
  { x: [1], N: 1, bias: true, activation: "relu", residual: true },
  { x: [0, 8], N: 4, bias: true, residual: true },
  { x: [3, 0], N: 5, bias: true, activation: "gelu" },
  { x: [132], N: 68, bias: true, activation: "silu", residual: true },
  { x: [7, 64], N: 1, bias: true, activation: "gelu" },
  { x: [33, 36], N: 68, bias: true, activation: "gelu", residual: true },
  { x: [2, 17, 37], N: 31, residual: true },
  { x: [64, 128], N: 68, activation: "geluTanh" },
  { x: [5, 64], N: 48, bias: true, activation: "silu", dtypes: ["f32", "bf16"] },
  { x: [40, 35], N: 33, bias: true, residual: true, dtypes: ["bf16", "bf16"] },
  { x: [9, 32], N: 40, activation: "relu", residual: true, dtypes: ["f16", "f16"] },
];

export const cases = defineCases(
  linearOp,
  problems.map(({ x, N, bias = false, activation = null, residual = false, dtypes = ["f32", "f32"] }) => {
    const K = x.at(-1) as number;
    const y = [...x.slice(0, -1), N];
    const half = halfEpsilon(...dtypes);
    return {
      name: `${print(x)} · [${N}, ${K}]ᵀ ${dtypes.join(" · ")}${bias ? " + bias" : ""}, ${activation ?? "as it is"}${residual ? " + residual" : ""}`,
      inputs: (random: Random): readonly Tensor[] => [
        random.normal(x, 1, dtypes[0]),
        random.normal([N, K], K ** -0.5, dtypes[1]),
        ...(bias ? [random.normal([N])] : []),
        ...(residual ? [random.normal(y, 1, dtypes[0])] : []),
      ],
      params: { bias, residual, activation },
      // The reference rounds in between.
      tolerance: { forward: 2e-5 + 3 * half, vjp: 5e-5 + 6 * half },
      flops: 2 * size(y) * K,
      bytes: 4 * (size(x) + N * K + size(y)),
    };
  }),
);
