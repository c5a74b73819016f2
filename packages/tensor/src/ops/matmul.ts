/** The matrix product, batched and broadcast, with either operand transposed. */
import { type DType, isFloat, promote } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { broadcast, print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { expand, sumTo } from "./expand.ts";
import { coverage, matmulKernel } from "./matmul.wgsl.ts";
import { reshape } from "./reshape.ts";

/** Which operands are read with their last two axes exchanged. */
export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/** Both options, decided. */
type Transposes = Required<MatmulOptions>;

const op = defineOp<[a: Tensor, b: Tensor], Transposes>({
  name: "matmul",
  forward: ([a, b], transposes) => multiply(a, b, transposes, promote(a.dtype, b.dtype)),
  saves: (needs) => ({ inputs: [needs[1] as boolean, needs[0] as boolean], output: false }),
  vjp([a, b], { transposeA, transposeB }, _, dy, needs) {
    // With one b for all rows the sum over the batch is a part of the product.
    const rows = oneMatrix(a, b, transposeA) ?? ((x: Tensor) => x);
    const dz = rows(dy);
    const da = (): Tensor =>
      transposeA
        ? multiply(b, dz, { transposeA: transposeB, transposeB: true }, a.dtype)
        : multiply(dz, b, { transposeA: false, transposeB: !transposeB }, a.dtype);
    const db = (): Tensor =>
      transposeB
        ? multiply(dz, rows(a), { transposeA: true, transposeB: transposeA }, b.dtype)
        : multiply(rows(a), dz, { transposeA: !transposeA, transposeB: false }, b.dtype);
    return [needs[0] ? back(da(), a.shape) : null, needs[1] ? back(db(), b.shape) : null];
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
  broadcast(left.shape.slice(0, -2), right.shape.slice(0, -2), `matmul of ${print(a.shape)} and ${print(b.shape)}`);
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

/** How to see a tensor [..., M, _] as one matrix, where all of `a` meets one and the same `b`; null where it does not. */
function oneMatrix(a: Tensor, b: Tensor, transposeA: boolean): ((x: Tensor) => Tensor) | null {
  if (transposeA || b.rank > a.rank || size(b.shape.slice(0, -2)) !== 1) return null;
  return (x) => x.alias([size(x.shape.slice(0, -1)), x.shape.at(-1) as number]);
}

/** A cotangent in the shape of its operand: as it is, or summed over the axes the operand was broadcast along. */
const back = (dx: Tensor, shape: Shape): Tensor => (dx.size === size(shape) ? dx.alias(shape) : sumTo(dx, shape));

/** The product, off the tape. */
function multiply(a: Tensor, b: Tensor, { transposeA, transposeB }: Transposes, dtype: DType): Tensor {
  const lead = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2), "matmul");
  const [m, k] = matrix(a, transposeA);
  const n = matrix(b, transposeB)[1];
  const shape = [...lead, m, n];
  if (k === 0) return full(a.device, shape, 0, dtype);
  const rows = oneMatrix(a, b, transposeA);
  if (rows && lead.length > 0) {
    const flat = multiply(rows(a), b.alias(b.shape.slice(-2)), { transposeA, transposeB }, dtype);
    return flat.alias(shape);
  }
  const walk = batches(lead, a, b);
  if (!walk) return multiply(whole(a, lead), whole(b, lead), { transposeA, transposeB }, dtype);
  const kernel = matmulKernel({
    transposeA,
    transposeB,
    wideA: (transposeA ? m : k) % 4 === 0,
    wideB: (transposeB ? k : n) % 4 === 0,
    wideY: n % 4 === 0,
    ragged: k % 4 !== 0,
  });
  const setting = { rows: 8, wide: 8 } as const;
  const [columns, height] = coverage(setting.rows, setting.wide);
  const across = Math.ceil(n / columns);
  const down = Math.ceil(m / height);
  const groups = across * down * size(lead);
  return kernel({ a, b }, { y: { shape, dtype } }, { m, n, k, across, down, groups, ...walk }, { knobs: setting }).y;
}

/** The lengths of the last two axes as the product sees them. */
function matrix({ shape }: Tensor, transposed: boolean): readonly [number, number] {
  const [p, q] = shape.slice(-2) as [number, number];
  return transposed ? [q, p] : [p, q];
}

/** A batch of matrices repeated to all the leading axes. */
const whole = (x: Tensor, lead: Shape): Tensor => expand(x, [...lead, ...x.shape.slice(-2)]);

/**
 * How the batch walks through both operands, in elements over [outer, inner]; null when broadcasting alternates more
 * often than that.
 */
function batches(lead: Shape, a: Tensor, b: Tensor) {
  const steps = [a, b].map((x) => {
    const own = x.shape.slice(0, -2);
    let step = size(x.shape.slice(-2));
    const out = Array<number>(lead.length).fill(0);
    for (let d = lead.length - 1, i = own.length - 1; i >= 0; d--, i--) {
      const length = own[i] as number;
      out[d] = length === 1 ? 0 : step;
      step *= length;
    }
    return out;
  });
  const lengths: number[] = [];
  const merged: number[][] = [[], []];
  for (const [d, length] of lead.entries()) {
    if (length === 1) continue;
    const joins = lengths.length > 0 && steps.every((own, i) => merged[i]?.at(-1) === (own[d] as number) * length);
    if (joins) lengths.push((lengths.pop() as number) * length);
    else lengths.push(length);
    for (const [i, own] of steps.entries()) {
      if (joins) merged[i]?.pop();
      merged[i]?.push(own[d] as number);
    }
  }
  if (lengths.length > 2) return null;
  while (lengths.length < 2) {
    lengths.unshift(1);
    for (const own of merged) own.unshift(0);
  }
  const [[aOuter, aInner], [bOuter, bInner]] = merged as [[number, number], [number, number]];
  return { inner: lengths[1] as number, aOuter, aInner, bOuter, bInner };
}
