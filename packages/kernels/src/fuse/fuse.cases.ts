import { type DType, print, type Shape, size, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import type { Expression } from "./expression.ts";
import { fusedOp } from "./fuse.ts";

/** What transformers need: some shapes a chain, the second of its inputs broadcast. */
const chains = {
  "gelu of x + bias": fusedOp((x: Expression, bias: Expression) => x.add(bias).geluTanh()),
  "residual + dropout": fusedOp((x: Expression, bias: Expression, residual: Expression, keep: Expression) =>
    x
      .add(bias)
      .mul(keep.mul(1 / 0.9))
      .add(residual),
  ),
  "silu gate": fusedOp((gate: Expression, up: Expression) => gate.silu().mul(up)),
};

const shapes: readonly Shape[] = [[1], [3, 7], [2, 3, 64], [5, 257], [64, 2560]];

export const fusedCases = Object.entries(chains).map(([chain, op]) => {
  const one = (shape: Shape, dtype: DType = "f32") => ({
    name: `${chain} ${print(shape)} ${dtype}`,
    inputs: (random: Random): readonly Tensor[] => [
      random.normal(shape, 1, dtype),
      random.normal(chain === "silu gate" ? shape : shape.slice(-1), 1, dtype),
      ...(chain === "residual + dropout"
        ? [random.normal(shape, 1, dtype), random.uniform(shape).gt(0.1).to(dtype)]
        : []),
    ],
    params: undefined,
    // The ops one by one round 16-bit values in between.
    tolerance: dtype === "f32" ? { forward: 1e-5, vjp: 1e-5 } : { forward: 2 ** -6, vjp: 2 ** -5 },
    flops: 8 * size(shape),
    bytes: (chain === "gelu of x + bias" ? 8 : chain === "silu gate" ? 12 : 16) * size(shape),
  });
  return defineCases(op, [...shapes.map((shape) => one(shape)), one([3, 36], "bf16"), one([5, 9], "f16")]);
});
