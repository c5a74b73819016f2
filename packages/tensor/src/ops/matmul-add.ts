/** Products that are added to what is there: gradients that pile up, and large results made in parts. */
import { isFloat } from "../dtype.ts";
import { ShapeError, UsageError } from "../errors.ts";
import { scope } from "../scope.ts";
import { print, sameShape } from "../shape.ts";
import { isTaping, untaped } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { assign, copy } from "./assign.ts";
import { add } from "./binary.ts";
import type { MatmulOptions } from "./matmul.ts";
import { multiply } from "./matmul-product.ts";

/**
 * `y += a · b`, in the memory of `y`; nothing goes on the tape.
 *
 * The product and the sum are f32. A 16-bit `y` is rounded after each call, so that a long row of calls had better add to f32.
 *
 * @param y  [M, N], a tensor that no op on the tape has made
 * @param a  [M, K], with `transposeA` [K, M]
 * @param b  [K, N], with `transposeB` [N, K]
 * @returns  `y`
 * @throws {ShapeError} when the shapes do not fit, or a tensor holds integers
 * @throws {UsageError} when `y` is the result of an op on the tape, or the tape would lose the gradient of `a` or `b`
 */
export const addmm_ = (y: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor =>
  accumulate("addmm_", 2, y, a, b, options);

/** The same for a batch of matrices: `y` [B, M, N], `a` [B, M, K] and `b` [B, K, N], each with a B of its own. */
export const baddbmm_ = (y: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor =>
  accumulate("baddbmm_", 3, y, a, b, options);

function accumulate(
  name: string,
  rank: number,
  y: Tensor,
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false }: MatmulOptions,
): Tensor {
  const refuse = (why: string): never => {
    throw new ShapeError(`${name}: y ${print(y.shape)}, a ${print(a.shape)} and b ${print(b.shape)}: ${why}`);
  };
  if ([y, a, b].some((x) => x.rank !== rank)) refuse(`each has ${rank} axes`);
  if ([y, a, b].some(({ dtype }) => !isFloat(dtype)))
    refuse(`they hold ${y.dtype}, ${a.dtype} and ${b.dtype}, not floats`);
  const [m, k] = transposeA ? [a.shape.at(-1), a.shape.at(-2)] : a.shape.slice(-2);
  const [other, n] = transposeB ? [b.shape.at(-1), b.shape.at(-2)] : b.shape.slice(-2);
  const lead = y.shape.slice(0, -2);
  const fits = k === other && [a, b].every((x) => sameShape(x.shape.slice(0, -2), lead));
  if (!fits || !sameShape(y.shape, [...lead, m as number, n as number])) {
    refuse(`they do not fit${transposeA ? ", with a transposed" : ""}${transposeB ? ", with b transposed" : ""}`);
  }
  if (y.node && !y.node.isLeaf) {
    throw new UsageError(`${name}: y ${print(y.shape)} was made by ${y.node.name} on the tape, which needs its value`);
  }
  if (isTaping() && (a.requiresGrad || b.requiresGrad)) {
    throw new UsageError(`${name}: no gradient flows through it; call it inside untaped()`);
  }
  if (y.size === 0) return y;
  scope(() =>
    untaped(() => {
      // One call cannot read and write one buffer.
      const [left, right] = [a, b].map((x) => (x.storage === y.storage ? copy(x) : x)) as [Tensor, Tensor];
      const transposes = { transposeA, transposeB };
      if (y.dtype === "f32") multiply(left, right, transposes, "f32", { into: y });
      else assign(y, add(y, multiply(left, right, transposes, "f32")));
    }),
  );
  return y;
}
