/** Tensors put together along an axis, and taken apart. */
import { bits, promote } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineOp } from "../op.ts";
import { scope } from "../scope.ts";
import { axisOf, print, strides } from "../shape.ts";
import { type Backward, record, untaped } from "../tape.ts";
import { emptyTensor, type Tensor, type TensorSpec } from "../tensor.ts";
import { cast } from "./cast.ts";
import { zeros } from "./create.ts";
import { unsqueeze } from "./reshape.ts";
import { stridedRead, stridedWrite, type Walk } from "./strided.ts";

/** Where a part of an axis, from index `begin` on, lies in a whole tensor. */
function partOf(whole: readonly number[], part: readonly number[], axis: number, begin: number): Walk {
  const steps = strides(whole);
  return { shape: part, strides: steps, offset: begin * (steps[axis] as number) };
}

/** Writes each part after the other; zeros where a part is null. Off the tape. */
function join(
  device: Device,
  { shape, dtype }: TensorSpec,
  axis: number,
  lengths: readonly number[],
  parts: readonly (Tensor | null)[],
): Tensor {
  // 16-bit elements share words, which two invocations must not write: they are joined in f32 and packed at the end.
  const spec: TensorSpec = { shape, dtype: bits(dtype) === 16 ? "f32" : dtype };
  const y = parts.includes(null) ? zeros(device, shape, spec.dtype) : emptyTensor(device, spec, "concat");
  let begin = 0;
  for (const [i, part] of parts.entries()) {
    if (part) stridedWrite(y, part, partOf(shape, part.shape, axis, begin));
    begin += lengths[i] as number;
  }
  return cast(y, dtype);
}

const lengthsOf = (tensors: readonly Tensor[], axis: number): number[] => tensors.map((t) => t.shape[axis] as number);

const concatOp = defineOp<readonly Tensor[], number>({
  name: "concat",
  forward(tensors, axis) {
    const [first] = tensors as readonly [Tensor];
    const lengths = lengthsOf(tensors, axis);
    const total = lengths.reduce((a, b) => a + b, 0);
    return join(first.device, { shape: first.shape.with(axis, total), dtype: first.dtype }, axis, lengths, tensors);
  },
  saves: (needs) => ({ inputs: needs.map(() => false), output: false }),
  vjp(tensors, axis, _, dy, needs) {
    let begin = 0;
    return tensors.map((t, i) => {
      const dx = needs[i] ? stridedRead(dy, partOf(dy.shape, t.shape, axis, begin)) : null;
      begin += t.shape[axis] as number;
      return dx;
    });
  },
});

/**
 * Tensors one after the other along an axis.
 *
 * @param tensors  at least one; alike in every axis but `axis`. Their dtypes are promoted as PyTorch does.
 * @param axis     -1 is the last
 * @throws {ShapeError} when there is no tensor, or their other axes differ
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors;
  if (!first) throw new ShapeError("concat: there is no tensor to put together");
  const d = axisOf(axis, first.rank, "concat");
  for (const [i, { shape, rank }] of tensors.entries()) {
    if (rank !== first.rank || shape.some((n, k) => k !== d && n !== first.shape[k])) {
      throw new ShapeError(
        `concat: tensor ${i} is ${print(shape)}, tensor 0 ${print(first.shape)}; they may differ in axis ${d} alone`,
      );
    }
  }
  const dtype = tensors.reduce((all, t) => promote(all, t.dtype), first.dtype);
  return concatOp(...tensors.map((t) => cast(t, dtype)), d);
}

/**
 * Tensors of one shape along a new axis.
 *
 * @param axis  where the new axis will be; -1 is the last of the result
 * @throws {ShapeError} when there is no tensor, or their shapes differ
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors;
  if (!first) throw new ShapeError("stack: there is no tensor to put together");
  const d = axisOf(axis, first.rank + 1, "stack");
  for (const [i, { shape }] of tensors.entries()) {
    if (print(shape) !== print(first.shape)) {
      throw new ShapeError(`stack: tensor ${i} is ${print(shape)}, tensor 0 ${print(first.shape)}`);
    }
  }
  return concat(
    tensors.map((t) => unsqueeze(t, d)),
    d,
  );
}

/**
 * A tensor taken apart along an axis; `concat` puts it together again.
 *
 * @param sizes  the length of each part; or one number for all, where the last part may be shorter
 * @throws {ShapeError} when the sizes do not add up to the axis, or are no lengths
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const d = axisOf(axis, x.rank, "split");
  const length = x.shape[d] as number;
  const lengths = typeof sizes === "number" ? evenly(length, sizes) : [...sizes];
  const total = lengths.reduce((a, b) => a + b, 0);
  if (total !== length || !lengths.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new ShapeError(`split: axis ${axis} of ${print(x.shape)} cannot be taken apart into ${print(lengths)}`);
  }
  const parts = scope(() =>
    untaped(() => {
      let begin = 0;
      return lengths.map((n) => {
        const part = stridedRead(x, partOf(x.shape, x.shape.with(d, n), d, begin));
        begin += n;
        return part;
      });
    }),
  );
  // One node for all parts, so that their cotangents are joined once and not added up one whole tensor at a time.
  if (parts.length > 0)
    record({ name: "split", inputs: [x], outputs: parts, save: [], backward: joined(x, d, lengths) });
  return parts;
}

/** The way back of a split; it does not hold the tensor itself. */
const joined =
  ({ device, shape, dtype }: Tensor, axis: number, lengths: readonly number[]): Backward =>
  (_, dys) => {
    const parts = lengths.map((_length, i) => dys[i] ?? null);
    return [join(device, { shape, dtype }, axis, lengths, parts)];
  };

/** As many parts of `each` as fit, and the rest. */
function evenly(length: number, each: number): number[] {
  if (!Number.isSafeInteger(each) || each < 1) throw new ShapeError(`split: parts cannot be ${each} long`);
  const count = Math.max(1, Math.ceil(length / each));
  return Array.from({ length: count }, (_, i) => Math.min(each, length - i * each));
}
