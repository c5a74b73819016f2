/** Shapes: sizes, broadcasting, axes and their names. No device, no data. */
import { ShapeError } from "./errors.ts";

/** The length of each axis, outermost first. `[]` is a scalar. */
export type Shape = readonly number[];

type Axes<S extends string> = S extends `${infer A} ${infer R}` ? Axes<A> | Axes<R> : S extends "..." | "_" ? never : S;
/** What {@link dims} returns for these names. */
export type Dims<S extends string> = Record<Axes<S>, number>;

/** `[2, 3]`, as every message of this package prints a shape. */
export const print = (shape: Shape): string => `[${shape.join(", ")}]`;

/** The number of elements: the product of the axes, 1 for a scalar. */
export const size = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/** True when both shapes have the same axes. */
export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** @throws {ShapeError} unless every axis is a whole number of at least 0 */
export function checkShape(shape: Shape, who: string): void {
  for (const n of shape) {
    if (!Number.isSafeInteger(n) || n < 0)
      throw new ShapeError(`${who}: ${print(shape)} is not a shape: ${n} is no length`);
  }
}

/**
 * Names the axes of a shape: `dims([2, 5, 64], "B L D")` is `{ B: 2, L: 5, D: 64 }`.
 *
 * `_` skips an axis, a leading `...` skips any number of them, and a name that is used twice must have one length.
 *
 * @throws {ShapeError} when the rank or a repeated name does not fit
 */
export function dims<const S extends string>(shape: Shape, names: S): Dims<S> {
  const axes = names.split(" ").filter((axis) => axis !== "");
  const open = axes[0] === "...";
  const own = open ? axes.slice(1) : axes;
  if (open ? shape.length < own.length : shape.length !== own.length) {
    throw new ShapeError(`expected [${names}], got ${print(shape)}`);
  }
  const out: Record<string, number> = {};
  for (const [i, axis] of own.entries()) {
    const length = shape[shape.length - own.length + i] as number;
    if (axis === "_") continue;
    if (axis in out && out[axis] !== length) {
      throw new ShapeError(`axis ${axis} is both ${out[axis]} and ${length} in ${print(shape)}, named [${names}]`);
    }
    out[axis] = length;
  }
  return out as Dims<S>;
}

/**
 * The axis counted from the front; -1 is the last.
 *
 * @throws {ShapeError} when there is no such axis
 */
export function axisOf(axis: number, rank: number, who: string): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank) {
    throw new ShapeError(`${who}: there is no axis ${axis} in a tensor of rank ${rank}`);
  }
  return at;
}

/**
 * The shape two operands broadcast to, by NumPy's rule: aligned at the last axis, equal or 1.
 *
 * @throws {ShapeError} naming both shapes
 */
export function broadcast(a: Shape, b: Shape, who: string): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new ShapeError(`${who}: ${print(a)} and ${print(b)} do not broadcast: axis ${i - rank} is ${m} and ${n}`);
    }
    return m === 1 ? n : m;
  });
}

/** Elements from one index of an axis to the next, in row-major order. */
export function strides(shape: Shape): number[] {
  const out = Array.from<number>({ length: shape.length });
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    out[i] = step;
    step *= shape[i] as number;
  }
  return out;
}

/** Elements from one index of `to` to the next in a tensor of `shape` that broadcasts to it: 0 along what is repeated. */
export function broadcastStrides(shape: Shape, to: Shape): number[] {
  const lead = to.length - shape.length;
  const own = strides(shape);
  return to.map((_, d) => (d < lead || shape[d - lead] === 1 ? 0 : (own[d - lead] as number)));
}

/**
 * Merges neighbouring axes that every operand walks through in one go, and drops those of length 1.
 *
 * @param steps  of each operand, how far it moves along each axis
 * @returns      the lengths that are left, and each operand's steps along them
 */
export function mergeAxes(
  shape: Shape,
  steps: readonly (readonly number[])[],
): { lengths: number[]; steps: number[][] } {
  const lengths: number[] = [];
  const merged: number[][] = steps.map(() => []);
  for (const [d, length] of shape.entries()) {
    if (length === 1) continue;
    const last = lengths.length - 1;
    const joins = last >= 0 && steps.every((own, i) => merged[i]?.[last] === (own[d] as number) * length);
    if (joins) lengths[last] = (lengths[last] as number) * length;
    else lengths.push(length);
    for (const [i, own] of steps.entries()) (merged[i] as number[])[lengths.length - 1] = own[d] as number;
  }
  return { lengths, steps: merged };
}
