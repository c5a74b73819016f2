import { binary, defineOp, print, promote, ShapeError, type Tensor, unary } from "@rot/tensor";
import { checkFloats, isWide } from "../shared/rows.ts";
import { swigluBackward } from "./backward.wgsl.ts";
import { swigluForward } from "./forward.wgsl.ts";

/** {@link swiglu} as the tape, the tests and the benchmarks know it. */
export const swigluOp = defineOp<[gate: Tensor, up: Tensor]>({
  name: "swiglu",
  kernels: [swigluForward, swigluBackward],

  check([gate, up]) {
    checkFloats("swiglu", { gate, up });
    if (print(gate.shape) !== print(up.shape)) {
      throw new ShapeError(`swiglu: gate is ${print(gate.shape)}, but up is ${print(up.shape)}`);
    }
  },

  reference: ([gate, up]) => binary.mul(unary.silu(gate), up),

  forward([gate, up]) {
    const { shape } = gate;
    return swigluForward(isWide(gate.size))(
      { gate, up },
      { y: { shape, dtype: promote(gate.dtype, up.dtype) } },
      steps(gate),
    ).y;
  },

  saves: { output: false },

  vjp([gate, up], _params, _y, dy, needs) {
    const { dgate, dup } = swigluBackward(isWide(gate.size))({ gate, up, dy }, { dgate: gate, dup: up }, steps(gate));
    return [needs[0] ? dgate : null, needs[1] ? dup : null];
  },
});

/** How many loads go over the tensor. */
const steps = ({ size }: Tensor): { n: number } => ({ n: isWide(size) ? size / 4 : size });

/**
 * The gate of a SwiGLU block: `silu(gate) · up`, with `silu(x) = x / (1 + e⁻ˣ)`, computed in f32.
 *
 * @param gate  any shape, f32, f16 or bf16; the projection that opens and closes
 * @param up    the shape of `gate`; the projection that passes
 * @returns     the shape of `gate`, in the dtype that both promote to
 * @throws {ShapeError} when the shapes differ, or one of them holds no floats
 * @see Shazeer 2020, https://arxiv.org/abs/2002.05202, eq. 6
 */
export const swiglu = (gate: Tensor, up: Tensor): Tensor => swigluOp(gate, up, undefined);
