import { type DType, print, type Shape, size, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { halfEpsilon } from "../shared/cases.ts";
import { rotary } from "./rotary.ts";

/** x, the tables, and whether those serve all heads: each broadcasting that a model uses, and what none does. */
const layouts: readonly (readonly [x: Shape, table: Shape, heads: boolean])[] = [
  [[2], [2], false],
  [[5, 6], [5, 6], false],
  [[2, 3, 5, 8], [5, 8], false], // heads before tokens
  [[2, 3, 5, 8], [2, 1, 5, 8], false],
  [[2, 3, 2, 3, 4], [3, 1, 3, 4], false], // alternates too often for one walk
  [[2, 5, 3, 14], [5, 14], true], // heads after tokens
  [[2, 5, 17, 16], [2, 5, 16], true],
  [[1, 7, 16, 128], [7, 128], true], // Qwen3
];

/** Random tables tell the four quarters of a rotation apart, which those of one angle do not. */
function one([x, table, heads]: readonly [Shape, Shape, boolean], dtype: DType = "f32", tables: DType = "f32") {
  const half = halfEpsilon(dtype, tables);
  return {
    name: `${print(x)} ${dtype} by ${print(table)} ${tables}${heads ? ", heads last" : ""}`,
    inputs: (random: Random): [Tensor, Tensor, Tensor] => [
      random.normal(x, 1, dtype),
      random.normal(table, 1, tables),
      random.normal(table, 1, tables),
    ],
    params: { heads },
    // The reference rounds in between.
    tolerance: { forward: 1e-6 + 2 * half, vjp: 1e-5 + 4 * half },
    flops: 3 * size(x),
    bytes: 8 * size(x) + 8 * size(table),
  };
}

export const cases = defineCases(rotary, [
  ...layouts.map((layout) => one(layout)),
  one([[2, 5, 3, 16], [5, 16], true], "bf16", "f32"),
  one([[2, 5, 3, 6], [5, 6], true], "f16", "f16"),
]);
