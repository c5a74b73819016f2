/** The matrix product, batched and broadcast, with either operand transposed. */
import { type DType, isFloat, promote } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { broadcast, print, sameShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { sumTo } from "./expand.ts";
import { lead, type Transposes } from "./matmul-plan.ts";
import { asMatrix, isOneProduct, multiply } from "./matmul-product.ts";
import { reshape } from "./reshape.ts";

/** Which operands are read with their last two axes exchanged. */
export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

const op = defineOp<[a: Tensor, b: Tensor], Transposes>({
  name: "matmul",
  forward: ([a, b], transposes) => multiply(a, b, transposes, promote(a.dtype, b.dtype)),
  saves: (needs) => ({ inputs: [needs[1] as boolean, needs[0] as boolean], output: false }),
  vjp([a, b], { transposeA, transposeB }, _, dy, needs) {
    // With one b for all rows the sum over the batch is a part of the product.
    const folds = isOneProduct(a, b, transposeA);
    const view = (x: Tensor): Tensor => (folds ? asMatrix(x) : x);
    const flow = (x: Tensor, multiplied: (dtype: DType) => Tensor): Tensor => {
      if (folds || sameShape(lead(x), lead(dy))) return multiplied(x.dtype).alias(x.shape);
      return cast(sumTo(multiplied("f32"), x.shape), x.dtype);
    };
    const da = (dtype: DType): Tensor =>
      transposeA
        ? multiply(b, dy, { transposeA: transposeB, transposeB: true }, dtype)
        : multiply(view(dy), b, { transposeA: false, transposeB: !transposeB }, dtype);
    const db = (dtype: DType): Tensor =>
      transposeB
        ? multiply(view(dy), view(a), { transposeA: true, transposeB: transposeA }, dtype)
        : multiply(view(a), view(dy), { transposeA: !transposeA, transposeB: false }, dtype);
    return [needs[0] ? flow(a, da) : null, needs[1] ? flow(b, db) : null];
  },
});

/**
 * The matrix product over the last two axes: `y[…, m, n] = Σₖ a[…, m, k] · b[…, k, n]`. Leading axes broadcast. A vector
 * counts as one row on the left and as one column on the right, and its axis is gone from the result, as in PyTorch.
 *
 * Sums are in f32 whatever the dtypes; f16 and bf16 operands are read as they are stored.
 *
 * @param a  [..., M, K], with `transposeA` [..., K, M], or [K]
 * @param b  [..., K, N], with `transposeB` [..., N, K], or [K]
 * @returns  [..., M, N], in the dtype that `a` and `b` promote to
 * @throws {ShapeError} naming both shapes, when K differs, the leading axes do not broadcast, or an operand is a scalar,
 *   holds integers, or is a vector to be transposed
 */
export function matmul(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions = {}): Tensor {
  const refuse = (why: string): never => {
    throw new ShapeError(`matmul: ${named("a", a, transposeA)} and ${named("b", b, transposeB)}: ${why}`);
  };
  if (!isFloat(a.dtype) || !isFloat(b.dtype)) refuse(`it multiplies floats, got ${a.dtype} and ${b.dtype}`);
  if (a.rank === 0 || b.rank === 0) refuse("a scalar is no matrix");
  if ((a.rank === 1 && transposeA) || (b.rank === 1 && transposeB)) refuse("a vector has no axes to transpose");
  const left = a.rank === 1 ? reshape(a, [1, a.size]) : a;
  const right = b.rank === 1 ? reshape(b, [b.size, 1]) : b;
  const [k, other] = [left.shape.at(transposeA ? -2 : -1), right.shape.at(transposeB ? -1 : -2)];
  if (k !== other) refuse(`K is ${k} and ${other}`);
  broadcast(lead(left), lead(right), `matmul of ${print(a.shape)} and ${print(b.shape)}`);
  const y = op(left, right, { transposeA, transposeB });
  if (a.rank > 1 && b.rank > 1) return y;
  const gone = [a.rank === 1 ? y.rank - 2 : -1, b.rank === 1 ? y.rank - 1 : -1];
  return reshape(
    y,
    y.shape.filter((_, axis) => !gone.includes(axis)),
  );
}

const named = (name: string, { shape }: Tensor, transposed: boolean): string =>
  `${name} ${print(shape)}${transposed ? " (transposed)" : ""}`;
