/** The matrix product, batched and broadcast, with either operand transposed. */
import { windowsOf } from "../bindings.ts";
import { type DType, isFloat, promote } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineOp } from "../op.ts";
import { broadcast, broadcastStrides, mergeAxes, print, sameShape, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { expand, sumTo } from "./expand.ts";
import { coverage, plain, type Tile, tiles } from "./matmul.wgsl.ts";
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

/** The axes of the batch. */
const lead = ({ shape }: Tensor): Shape => shape.slice(0, -2);

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

/** Whether all of `a` meets one and the same `b`, so that the leading axes count as rows. */
const isOneProduct = (a: Tensor, b: Tensor, transposeA: boolean): boolean =>
  !transposeA && b.rank <= a.rank && size(lead(b)) === 1;

/** [..., M, N] as [... · M, N]. */
const asMatrix = (x: Tensor): Tensor => x.alias([size(x.shape.slice(0, -1)), x.shape.at(-1) as number]);

/**
 * The product, off the tape.
 *
 * @param tile  forces a tile, for tests and benchmarks
 */
export function multiply(a: Tensor, b: Tensor, transposes: Transposes, dtype: DType, tile?: Tile): Tensor {
  const { transposeA, transposeB } = transposes;
  const batch = broadcast(lead(a), lead(b), "matmul");
  const [m, k] = matrix(a, transposeA);
  const n = matrix(b, transposeB)[1];
  const shape = [...batch, m, n];
  if (k === 0) return full(a.device, shape, 0, dtype);
  if (batch.length > 0 && isOneProduct(a, b, transposeA)) {
    return multiply(asMatrix(a), b.alias(b.shape.slice(-2)), transposes, dtype, tile).alias(shape);
  }
  // A vector is the same whether transposed or not, and a single column is made as a single row.
  if (n === 1 && m > 1) {
    const row = b.alias([...lead(b), 1, k]);
    return multiply(row, a, { transposeA: false, transposeB: !transposeA }, dtype, tile).alias(shape);
  }
  if (m === 1 && transposeA) {
    return multiply(a.alias([...lead(a), 1, k]), b, { transposeA: false, transposeB }, dtype, tile);
  }
  const walk = batches(batch, a, b);
  if (!walk) return multiply(repeated(a, batch), repeated(b, batch), transposes, dtype, tile);
  const wide = { a: (transposeA ? m : k) % 4 === 0, b: (transposeB ? k : n) % 4 === 0, y: n % 4 === 0 };
  // Where a tensor takes several bindings every load and store is a choice: much code, which some drivers choke on.
  const windowed = [a.bytes, b.bytes, 4 * size(shape)].some((bytes) => windowsOf(bytes, a.device.limits) > 1);
  const small = size(shape) * k <= SMALL || (windowed && !(wide.a && wide.b && wide.y));
  if (small && !tile) {
    const [rowA, stepA] = transposeA ? [1, m] : [k, 1];
    const [stepB, columnB] = transposeB ? [1, k] : [n, 1];
    const sizes = { m, n, k, size: size(shape), rowA, stepA, stepB, columnB };
    return plain({ a, b }, { y: { shape, dtype } }, { ...sizes, ...walk }).y;
  }
  const kernel = tiles({
    transposeA,
    transposeB,
    wideA: wide.a,
    wideB: wide.b,
    wideY: wide.y,
    ragged: k % 4 !== 0,
  });
  const chosen = tile ?? choose(a.device, windowed ? Math.min(m, 4) : m, transposeB);
  const [columns, rows] = coverage(chosen);
  const across = Math.ceil(n / columns);
  const down = Math.ceil(m / rows);
  const groups = across * down * size(batch);
  return kernel({ a, b }, { y: { shape, dtype } }, { m, n, k, across, down, groups, ...walk }, { knobs: chosen }).y;
}

/** Up to so many products of two numbers the plain kernel serves. */
const SMALL = 2 ** 16;

/** The tile that suits an adapter and a height; the rest of the shape matters less. */
function choose({ kind, subgroupSize }: Device, m: number, transposeB: boolean): Tile {
  if (kind !== "hardware" && subgroupSize >= 4 && subgroupSize <= 16) {
    return { rows: m > 8 ? 16 : m > 4 ? 8 : m > 1 ? 4 : 1, arrangement: "shared" };
  }
  if (m > 4) return { rows: 8, arrangement: "block" };
  return { rows: m > 1 ? 4 : 1, arrangement: transposeB ? "dots" : "columns" };
}

/** The lengths of the last two axes as the product sees them. */
function matrix({ shape }: Tensor, transposed: boolean): readonly [number, number] {
  const [p, q] = shape.slice(-2) as [number, number];
  return transposed ? [q, p] : [p, q];
}

/**
 * How a batch walks through both operands, in elements over [outer, inner]; null where broadcasting alternates more often
 * than that.
 */
function batches(batch: Shape, a: Tensor, b: Tensor) {
  const { lengths, steps } = mergeAxes(
    batch,
    [a, b].map((x) => broadcastStrides(lead(x), batch).map((step) => step * size(x.shape.slice(-2)))),
  );
  if (lengths.length > 2) return null;
  const [ofA, ofB] = steps as [number[], number[]];
  return {
    inner: lengths.at(-1) ?? 1,
    aOuter: ofA.at(-2) ?? 0,
    aInner: ofA.at(-1) ?? 0,
    bOuter: ofB.at(-2) ?? 0,
    bInner: ofB.at(-1) ?? 0,
  };
}

/** A batch of matrices repeated to all the leading axes. */
const repeated = (x: Tensor, batch: Shape): Tensor => expand(x, [...batch, ...x.shape.slice(-2)]);
