/** Broadcasting on the host, by its definition: shapes that fit together, elements under a broadcast index, and its adjoint. */
import fc from "fast-check";
import { broadcast, type Shape, size } from "../../src/shape.ts";
import { at, build, indicesOf, type Plain } from "./arrays.ts";

/** So many shapes of rank 0 to 4 that broadcast together: axes of 1 and missing leading axes are common. */
export const broadcastable = (count: number): fc.Arbitrary<number[][]> =>
  fc
    .array(fc.constantFrom(0, 1, 2, 3, 5), { maxLength: 4 })
    .filter((shape) => size(shape) <= 250)
    .chain((shape) => {
      const operand = fc
        .tuple(
          fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
          fc.integer({ min: 0, max: shape.length }),
          fc.boolean(),
        )
        .map(([ones, lead, whole]) => (whole ? shape : shape.map((n, d) => (ones[d] ? 1 : n)).slice(lead)));
      return fc.array(operand, { minLength: count, maxLength: count });
    });

/** The element that an operand shows at an index of the broadcast shape. */
export const under = (x: Plain, index: readonly number[]): number =>
  at(
    x,
    x.shape.map((n, d) => (n === 1 ? 0 : (index[index.length - x.shape.length + d] as number))),
  );

/** `f` of the operands' elements at every index of the shape they broadcast to. */
export function zip(operands: readonly Plain[], f: (...elements: number[]) => number): Plain {
  const shape = operands.reduce<Shape>((all, x) => broadcast(all, x.shape, "zip"), []);
  return build(shape, (index) => f(...operands.map((x) => under(x, index))));
}

/** The sum over the axes that an operand of `shape` was broadcast along. */
export function summedTo(x: Plain, shape: Shape): Plain {
  const sums = new Map<string, number>();
  const keyOf = (index: readonly number[]): string =>
    shape.map((n, d) => (n === 1 ? 0 : index[index.length - shape.length + d])).join();
  for (const index of indicesOf(x.shape)) sums.set(keyOf(index), (sums.get(keyOf(index)) ?? 0) + at(x, index));
  return build(shape, (index) => sums.get(index.join()) ?? 0);
}
