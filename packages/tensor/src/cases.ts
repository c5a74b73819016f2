/** What to check of an op and to time of it: one list for both. Free of vitest, which runs only under itself. */
import type { DType } from "./dtype.ts";
import type { Device } from "./gpu/device.ts";
import type { Op } from "./op.ts";
import { tensor } from "./ops/create.ts";
import { philox } from "./random/philox.ts";
import { type Shape, size } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** Seeded noise made on the host, so that a failure is the same failure tomorrow and on every adapter. */
export class Random {
  readonly device: Device;
  readonly #seed: number;
  #count = 0;

  constructor(device: Device, seed = 1) {
    this.device = device;
    this.#seed = seed;
  }

  /** The next number in [0, 1). */
  next(): number {
    return (philox([this.#count++, 0, 0, 0], [this.#seed, 0])[0] >>> 8) / 2 ** 24;
  }

  /** A whole number in [from, to). */
  integer(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from));
  }

  /** Normal numbers of mean 0, as an array. */
  normals(count: number, scale = 1): Float32Array {
    const draw = (): number => scale * Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return Float32Array.from({ length: count }, draw);
  }

  /** A tensor of normal numbers. */
  normal(shape: Shape, scale = 1, dtype: DType = "f32"): Tensor {
    return tensor(this.device, this.normals(size(shape), scale), { shape, dtype });
  }

  /** A tensor of numbers in [from, to). */
  uniform(shape: Shape, from = 0, to = 1): Tensor {
    const draw = (): number => from + (to - from) * this.next();
    return tensor(this.device, Float32Array.from({ length: size(shape) }, draw), { shape });
  }

  /** An i32 tensor of whole numbers in [from, to). */
  integers(shape: Shape, from: number, to: number): Tensor {
    const draw = (): number => this.integer(from, to);
    return tensor(this.device, Int32Array.from({ length: size(shape) }, draw), { shape, dtype: "i32" });
  }
}

/** One case of an op: what goes in, how close the result must be, and what it costs. */
export interface Case<I extends readonly Tensor[], P> {
  readonly name: string;
  readonly inputs: (random: Random) => I;
  readonly params: P;
  /** max|got − want| / max|want| that may be left between the kernel and the reference. */
  readonly tolerance: { readonly forward: number; readonly vjp: number };
  readonly flops: number;
  /** Bytes moved if every tensor is touched once. */
  readonly bytes: number;
}

/** An op and its cases. */
export interface Cases<I extends readonly Tensor[], P> {
  readonly op: Op<I, P>;
  readonly cases: readonly Case<I, P>[];
}

/** Ties cases to their op, with its types. */
export const defineCases = <I extends readonly Tensor[], P>(
  op: Op<I, P>,
  cases: readonly Case<I, P>[],
): Cases<I, P> => ({
  op,
  cases,
});
