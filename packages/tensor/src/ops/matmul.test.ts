import fc from "fast-check";
import type { DType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { grad } from "../grad.ts";
import { broadcast, type Shape, size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { binary } from "./binary.ts";
import { cast } from "./cast.ts";
import { full, tensor } from "./create.ts";
import { matmul, type MatmulOptions } from "./matmul.ts";
import { sum } from "./reduce.ts";

/** Values of a matrix batch on the host. */
interface Plain {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
}

/** The product in double precision, by its definition; both operands have two axes at least. */
function product(a: Plain, b: Plain, { transposeA = false, transposeB = false }: MatmulOptions = {}): Plain {
  const lead = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2), "reference");
  const [p, q] = a.shape.slice(-2) as [number, number];
  const [r, s] = b.shape.slice(-2) as [number, number];
  const [m, k] = transposeA ? [q, p] : [p, q];
  const n = transposeB ? r : s;
  const values = new Float64Array(size(lead) * m * n);
  for (let batch = 0; batch < size(lead); batch++) {
    const [a0, b0] = [start(a.shape, lead, batch), start(b.shape, lead, batch)];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let total = 0;
        for (let l = 0; l < k; l++) {
          const x = a.values[a0 + (transposeA ? l * m + i : i * k + l)] as number;
          const w = b.values[b0 + (transposeB ? j * k + l : l * n + j)] as number;
          total += x * w;
        }
        values[(batch * m + i) * n + j] = total;
      }
    }
  }
  return { shape: [...lead, m, n], values };
}

/** Where the matrix of one batch begins in an operand. */
function start(shape: Shape, lead: Shape, batch: number): number {
  let at = 0;
  let step = size(shape.slice(-2));
  for (let d = lead.length - 1, own = shape.length - 3, rest = batch; own >= 0; d--, own--) {
    const length = shape[own] as number;
    if (length > 1) at += (rest % (lead[d] as number)) * step;
    rest = Math.floor(rest / (lead[d] as number));
    step *= length;
  }
  return at;
}

const plain = async (t: Tensor): Promise<Plain> => ({ shape: t.shape, values: await t.read() });

const lengths = fc.constantFrom(0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 31, 33, 37, 64);
const floats = fc.constantFrom<DType>("f32", "f32", "bf16", "f16");

/** Two operands whose leading axes broadcast. */
const operands = fc
  .record({
    m: lengths,
    k: lengths,
    n: lengths,
    lead: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 4 }),
    drop: fc.tuple(fc.nat(4), fc.nat(4)),
    ones: fc.tuple(
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    ),
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    types: fc.tuple(floats, floats),
  })
  .map(({ m, k, n, lead, drop, ones, transposeA, transposeB, types }) => {
    const leading = (i: 0 | 1): number[] => lead.map((length, d) => (ones[i][d] ? 1 : length)).slice(drop[i]);
    return {
      a: [...leading(0), ...(transposeA ? [k, m] : [m, k])],
      b: [...leading(1), ...(transposeB ? [n, k] : [k, n])],
      transposes: { transposeA, transposeB },
      types,
    };
  });

/** How far a sum of k products may be off: f32 rounding, and that of the result's own dtype. */
const tolerance = (dtype: DType, k: number) => ({
  absolute: 1e-6 * (k + 1),
  relative: dtype === "bf16" ? 2 ** -8 : dtype === "f16" ? 2 ** -10 : 1e-5,
});

test("200 random products agree with double precision, and so do their gradients", async ({ device, random }) => {
  await fc.assert(
    fc.asyncProperty(operands, async ({ a: aShape, b: bShape, transposes, types }) => {
      const a = requireGrad(random.normal(aShape, 1, types[0]));
      const b = requireGrad(random.normal(bShape, 1, types[1]));
      const y = matmul(a, b, transposes);
      const [pa, pb] = [await plain(a), await plain(b)];
      const want = product(pa, pb, transposes);
      const k = aShape.at(transposes.transposeA ? -2 : -1) as number;
      await expect(y).toBeClose(want, tolerance(y.dtype, k));

      const dy = random.normal(y.shape, 1, y.dtype);
      const [da, db] = grad(y, [a, b], { cotangent: dy }) as [Tensor, Tensor];
      expect([da.dtype, db.dtype]).toEqual(types);
      const pdy = await plain(dy);
      const { transposeA, transposeB } = transposes;
      const wantDa = transposeA
        ? product(pb, pdy, { transposeA: transposeB, transposeB: true })
        : product(pdy, pb, { transposeB: !transposeB });
      const wantDb = transposeB
        ? product(pdy, pa, { transposeA: true, transposeB: transposeA })
        : product(pa, pdy, { transposeA: !transposeA });
      // A 16-bit gradient may be rounded before it is summed over the batch as well as after.
      const loose = (dtype: DType) => ({ absolute: dtype === "f32" ? 1e-4 : 0.2, relative: 2 ** -7 });
      await expect(da).toBeClose(summed(wantDa, a.shape), loose(da.dtype));
      await expect(db).toBeClose(summed(wantDb, b.shape), loose(db.dtype));
      for (const t of [a, b, y, dy, da, db]) t.dispose();
    }),
    { numRuns: 200, seed: 11 },
  );
});

/** Summed over the axes that `shape` was broadcast along. */
function summed({ shape, values }: Plain, to: Shape): Plain {
  const out = new Float64Array(size(to));
  const each = size(shape.slice(-2));
  for (let batch = 0; batch < size(shape.slice(0, -2)); batch++) {
    const at = start(to, shape.slice(0, -2), batch);
    for (let i = 0; i < each; i++) out[at + i] = (out[at + i] as number) + (values[batch * each + i] as number);
  }
  return { shape: to, values: out };
}
