/** What the ops over rows share on the host: their view of a tensor, and their refusals. */
import { isFloat, print, type Shape, ShapeError, size, type Tensor, zeros } from "@rot/tensor";

/** A tensor seen as a matrix: its last axis, and all the others folded into one. */
export interface Rows {
  readonly rows: number;
  readonly width: number;
}

/** How many rows of which width a tensor has. */
export const rowsOf = ({ shape }: { readonly shape: Shape }): Rows => ({
  rows: size(shape.slice(0, -1)),
  width: shape.at(-1) as number,
});

/** Whether rows are whole vectors of four. */
export const isWide = (width: number): boolean => width % 4 === 0;

/** @throws {ShapeError} unless every tensor holds floats */
export function checkFloats(who: string, tensors: Readonly<Record<string, Tensor>>): void {
  for (const [name, { dtype }] of Object.entries(tensors)) {
    if (!isFloat(dtype)) throw new ShapeError(`${who}: ${name} is ${dtype}, and it takes floats`);
  }
}

/** @throws {ShapeError} unless `gain` is a vector as long as the last axis of `x` */
export function checkGain(who: string, name: string, x: Tensor, gain: Tensor): void {
  const width = x.shape.at(-1);
  if (width === undefined || gain.rank !== 1 || gain.shape[0] !== width) {
    const axis = width === undefined ? "x is a scalar" : `the last axis of x ${print(x.shape)} is ${width}`;
    throw new ShapeError(`${who}: ${name} is ${print(gain.shape)}, but ${axis}`);
  }
}

/** Zeros like some tensors, which need not be held: the gradients of what an empty tensor met. */
export const zerosLike = <const I extends readonly Tensor[]>({ device }: Tensor, tensors: I) =>
  tensors.map(({ shape, dtype }) => zeros(device, shape, dtype)) as unknown as { readonly [N in keyof I]: Tensor };
