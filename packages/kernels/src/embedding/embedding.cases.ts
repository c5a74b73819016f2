import { type DType, print, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { embeddingOp } from "./embedding.ts";

/** Ids of every row, many of them more than once, so that gradients add up. */
function one(tokens: readonly number[], rows: number, extraRows: number, width: number, dtype: DType = "f32") {
  const size = tokens.reduce((a, b) => a * b, width);
  return {
    name: `${print(tokens)} of [${rows} + ${extraRows}, ${width}] ${dtype}`,
    inputs: (random: Random): [Tensor, Tensor, Tensor] => [
      random.integers(tokens, 0, rows + extraRows),
      random.normal([rows, width], 1, dtype),
      random.normal([extraRows, width], 1, dtype),
    ],
    params: undefined,
    // Rows are copied; only gradients are sums, of 16-bit cotangents where the table is.
    tolerance: { forward: 1e-30, vjp: dtype === "f32" ? 1e-6 : 2 ** -8 },
    flops: 0,
    bytes: 2 * size * (dtype === "f32" ? 4 : 2),
  };
}

/** One token, odd widths, no extra rows, nothing but them, and the width of Qwen3-VL-4B. */
export const cases = defineCases(embeddingOp, [
  one([1], 1, 1, 1),
  one([7], 5, 2, 3),
  one([2, 33], 11, 3, 64),
  one([70], 9, 0, 36),
  one([70], 0, 4, 8),
  one([65], 40, 2, 257),
  one([64], 100, 4, 2560),
  one([31], 13, 3, 44, "bf16"),
  one([31], 13, 3, 13, "f16"),
]);
