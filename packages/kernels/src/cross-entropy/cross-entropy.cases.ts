import type { Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { rowLosses } from "./cross-entropy.ts";

interface Problem {
  readonly N: number;
  readonly D: number;
  readonly V: number;
  readonly dtype?: "f32" | "bf16" | "f16";
  readonly scale?: number;
  /** Small enough that the problem takes several blocks. */
  readonly workspace?: number;
}

/** Vocabularies of one word, of a prime, around a block of 128 and a workgroup's 1,024; Qwen3's. */
const problems: readonly Problem[] = [
  { N: 1, D: 1, V: 1 },
  { N: 3, D: 7, V: 13 },
  { N: 5, D: 16, V: 127, workspace: 1 },
  { N: 5, D: 16, V: 128, workspace: 1 },
  { N: 5, D: 17, V: 389, workspace: 1, dtype: "bf16" },
  { N: 131, D: 12, V: 260, workspace: 1, dtype: "f16" },
  { N: 9, D: 24, V: 1025, scale: 30 },
  { N: 64, D: 64, V: 2048, dtype: "bf16" },
  { N: 4, D: 4, V: 151_936 },
];

export const cases = defineCases(
  rowLosses,
  problems.map(({ N, D, V, dtype = "f32", scale = 1, workspace = 2 ** 25 }) => ({
    name: `[${N}, ${D}] · [${V}, ${D}]ᵀ ${dtype} × ${scale}${workspace === 1 ? " in blocks" : ""}`,
    inputs: (random: Random): [Tensor, Tensor, Tensor] => [
      random.normal([N, D], scale),
      random.normal([V, D], D ** -0.5, dtype),
      random.integers([N], 0, V),
    ],
    params: { ignoreIndex: 2, workspace },
    // Gradients of 16-bit weights are rounded to 16 bits, and so is the reference's.
    tolerance: { forward: 1e-5, vjp: dtype === "f32" ? 1e-4 : dtype === "f16" ? 2e-3 : 1e-2 },
    flops: 2 * N * D * V,
    bytes: (dtype === "f32" ? 4 : 2) * D * V + 4 * N * D,
  })),
);
