/** Changing a tensor in place, and giving a value memory of its own. */
import { ShapeError, UsageError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { scope } from "../scope.ts";
import { print, sameShape } from "../shape.ts";
import { isTaping, untaped } from "../tape.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";

/** Whole words are copied, so the dtype does not matter. */
const copyWords = defineKernel({
  name: "assign",
  inputs: ["y"],
  outputs: [],
  updates: ["x"],
  uniforms: { n: "u32" },
  knobs: { form: ["words", "words4"] },
  forms: ({ form }) => ({ x: form, y: form }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_x(i, load_y(i)); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

function write(x: Tensor, y: Tensor): void {
  const wide = x.bytes % 16 === 0;
  copyWords({ x, y }, {}, { n: x.bytes / (wide ? 16 : 4) }, { knobs: { form: wide ? "words4" : "words" } });
}

/**
 * Puts the values of `y` into the memory of `x`, in the dtype of `x`. Every handle on that memory sees them, and a
 * backward that saved the old values says so instead of using the new ones.
 *
 * @param x  a parameter or any other tensor that no op on the tape has made
 * @param y  the shape of `x`, any dtype
 * @returns  `x`
 * @throws {ShapeError} when the shapes differ
 * @throws {UsageError} when `x` is the result of an op on the tape, or the tape would lose the gradient of `y`
 */
export function assign<T extends Tensor>(x: T, y: Tensor): T {
  if (!sameShape(x.shape, y.shape)) {
    throw new ShapeError(`assign: ${print(y.shape)} does not fit into ${print(x.shape)}`);
  }
  const isOneMemory = x.storage === y.storage;
  if (isOneMemory && x.offset === y.offset) return x;
  if (x.node && !x.node.isLeaf) {
    throw new UsageError(`assign: ${print(x.shape)} was made by ${x.node.name} on the tape, which needs its value`);
  }
  if (isTaping() && y.requiresGrad) {
    throw new UsageError("assign: no gradient flows through it; call it inside untaped()");
  }
  if (x.size === 0) return x;
  // One call cannot read and write one buffer.
  scope(() => untaped(() => write(x, cast(isOneMemory ? copy(y) : y, x.dtype))));
  return x;
}

/** The same values in memory of their own, off the tape. */
export function copy(x: Tensor): Tensor {
  const y = emptyTensor(x.device, x, "copy");
  if (x.size > 0) write(y, x);
  return y;
}
