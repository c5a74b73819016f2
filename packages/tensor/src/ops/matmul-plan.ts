/** One product, measured: what every way to make it needs to know. */
import { windowsOf } from "../bindings.ts";
import type { DType } from "../dtype.ts";
import type { Device } from "../gpu/device.ts";
import { broadcastStrides, mergeAxes, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type Ending, endingInputs } from "./matmul-ending.wgsl.ts";

/** Which operands are read with their last two axes exchanged. */
export interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** A product that is about to be made. */
export interface Plan {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly transposes: Transposes;
  /** Of the result. */
  readonly dtype: DType;
  readonly ending: Ending;
  /** An f32 tensor as large as the product, which is added to it; it is the result. */
  readonly into: Tensor | undefined;
  /** The leading axes of the result. */
  readonly batch: Shape;
  readonly walk: Walk;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Which tensors are whole vectors of four. */
  readonly wide: { readonly a: boolean; readonly b: boolean; readonly y: boolean };
  /** Whether a tensor takes several bindings. Every load and store is a choice then: much code, which some drivers choke on. */
  readonly windowed: boolean;
}

/** The axes of the batch. */
export const lead = ({ shape }: Tensor): Shape => shape.slice(0, -2);

/** The lengths of the last two axes as the product sees them. */
export function matrix({ shape }: Tensor, transposed: boolean): readonly [number, number] {
  const [p, q] = shape.slice(-2) as [number, number];
  return transposed ? [q, p] : [p, q];
}

/** What a plan is made of; the rest follows. */
export type Given = Pick<Plan, "a" | "b" | "transposes" | "dtype" | "ending" | "into" | "batch" | "walk">;

/** Measures a product. */
export function planOf(given: Given): Plan {
  const { a, b, transposes, dtype, ending, into, batch, walk } = given;
  const { transposeA, transposeB } = transposes;
  const [m, k] = matrix(a, transposeA);
  const n = matrix(b, transposeB)[1];
  const wide = { a: (transposeA ? m : k) % 4 === 0, b: (transposeB ? k : n) % 4 === 0, y: n % 4 === 0 };
  const most = Math.max(a.bytes, b.bytes, 4 * size(batch) * m * n);
  const windowed = windowsOf(most, a.device.limits) > 1;
  // Not spread: this is done for each product, and spreading takes microseconds.
  return { a, b, transposes, dtype, ending, into, batch, walk, m, n, k, wide, windowed };
}

/** The tensors that a product reads. */
export const tensorsOf = ({ a, b, ending }: Plan): Record<string, Tensor> => ({ a, b, ...endingInputs(ending) });

/** Whether a device runs a subgroup's lanes as one vector of a CPU. */
export const isVectorUnit = ({ kind, subgroupSize }: Device): boolean =>
  kind !== "hardware" && subgroupSize >= 4 && subgroupSize <= 16;

/**
 * How a batch walks through the matrices of both operands over [outer, inner]; null where broadcasting alternates more
 * often than that.
 */
export function walkOf(batch: Shape, a: Tensor, b: Tensor): Walk | null {
  const { lengths, steps } = mergeAxes(
    batch,
    [a, b].map((x) => broadcastStrides(lead(x), batch)),
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

/** In matrices, or in whatever {@link scaled} has made of them. */
export type Walk = Readonly<Record<"inner" | "aOuter" | "aInner" | "bOuter" | "bInner", number>>;

/** The same in elements or vectors, of which a matrix has so many. */
export const scaled = ({ inner, aOuter, aInner, bOuter, bInner }: Walk, sizeA: number, sizeB: number): Walk => ({
  inner,
  aOuter: aOuter * sizeA,
  aInner: aInner * sizeA,
  bOuter: bOuter * sizeB,
  bInner: bInner * sizeB,
});
