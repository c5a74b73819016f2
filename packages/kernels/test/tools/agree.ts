/** Compares an op with its reference at one point: the values, and the cotangents of the inputs that want one. */
import { type DType, grad, type Op, requireGrad, type Shape, type Tensor } from "@rot/tensor";
import type { Random } from "@rot/tensor/cases";
import { expect, type Tolerance } from "@rot/tensor/testing";
import fc from "fast-check";

/** What to compare. */
export interface Point<I extends readonly Tensor[], P> {
  readonly inputs: I;
  readonly params: P;
  /** Which inputs want a cotangent. */
  readonly needs: readonly boolean[];
  readonly tolerance: Tolerance;
}

/** @throws when the op and its reference differ by more than the tolerance */
export async function agree<I extends readonly Tensor[], P>(
  op: Op<I, P>,
  random: Random,
  point: Point<NoInfer<I>, NoInfer<P>>,
) {
  const { inputs, params, needs, tolerance } = point;
  const leaves = inputs.filter((_, i) => needs[i]).map((input) => requireGrad(input));
  const want = op.spec.reference?.(inputs, params) as Tensor;
  const got = op(...inputs, params);
  expect([got.dtype, got.requiresGrad]).toEqual([want.dtype, want.requiresGrad]);
  const cotangent = random.normal(want.shape, 1, want.dtype);
  // Before the first wait: a setting that `with` forces holds until then.
  const [wanted, given] = [want, got].map((y) => (leaves.length > 0 ? grad(y, leaves, { cotangent }) : [])) as [
    Tensor[],
    Tensor[],
  ];
  await expect(got).toBeClose(want, tolerance);
  for (const [i, g] of given.entries()) {
    expect(g.dtype).toBe(wanted[i]?.dtype);
    await expect(g, `gradient ${i}`).toBeClose(wanted[i] as Tensor, tolerance);
  }
}

/** Pairs of dtypes, mostly f32: every other pair is another kernel to compile. */
const pairs: readonly (readonly [DType, DType])[] = [
  ["f32", "f32"],
  ["f32", "f32"],
  ["bf16", "bf16"],
  ["f16", "f32"],
];
export const dtypes = fc.constantFrom(...pairs);

/** What one rounding of the coarsest dtype may cost twice over, and f32 a little. */
export function toleranceOf(...of: readonly DType[]): Tolerance {
  const error = of.includes("bf16") ? 2 ** -6 : of.includes("f16") ? 2 ** -9 : 1e-4;
  return { absolute: error, relative: error };
}

/** Leading axes: none, one or two, empty ones among them, and a last axis of `width`. */
export const shapeOf = (width: fc.Arbitrary<number>): fc.Arbitrary<Shape> =>
  fc.tuple(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 2 }), width).map(([lead, last]) => [...lead, last]);

/** Widths from 0 up, every other one a whole number of vectors. */
export const widths: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: 0, max: 150 }),
  fc.integer({ min: 1, max: 40 }).map((n) => 4 * n),
);

/** 200 runs with a fixed seed. */
export const runs = { numRuns: 200, seed: 4 } as const;
