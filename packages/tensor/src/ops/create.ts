/** Tensors out of nothing: from data, constants, ranges. They take the device first; there is no ambient one. */
import { byteLength, type DType, isFloat, scalarType, toBf16, toF16 } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineKernel } from "../kernel.ts";
import { checkShape, print, type Shape, size } from "../shape.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";

/** Numbers nested as deep as the tensor has axes. */
export type Nested = number | boolean | readonly Nested[];

/** What {@link tensor} takes besides the data. */
export interface TensorOptions<D extends DType = DType> {
  /** By default the shape of the nesting. */
  readonly shape?: Shape;
  /** By default f32; i32, u32 or bool for an Int32Array, a Uint32Array or nested booleans. */
  readonly dtype?: D;
}

/**
 * A tensor with the given values.
 *
 * @param data  nested arrays, or a flat typed array with `shape`; a Uint16Array holds the bits of f16 or bf16
 * @throws {ShapeError} when the nesting is ragged or the count does not fit the shape
 */
export function tensor<D extends DType = "f32">(
  device: Device,
  data: Nested | Float32Array | Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array,
  options: TensorOptions<D> = {},
): Tensor<D> {
  const dtype: DType = options.dtype ?? guess(data);
  const shape = options.shape ?? (ArrayBuffer.isView(data) ? [(data as Float32Array).length] : nesting(data as Nested));
  checkShape(shape, "tensor");
  const flat = ArrayBuffer.isView(data) ? (data as Float32Array) : flatten(data as Nested, shape);
  if (flat.length !== size(shape)) {
    throw new ShapeError(`tensor: ${flat.length} values do not fill ${print(shape)}, which has ${size(shape)}`);
  }
  const made = emptyTensor(device, { shape, dtype }, "tensor");
  if (flat.length > 0) device.upload(made.storage.buffer, encode(dtype, flat));
  return made as Tensor<D>;
}

function guess(data: unknown): DType {
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint32Array) return "u32";
  let first = data;
  while (Array.isArray(first)) first = first[0];
  return typeof first === "boolean" ? "bool" : "f32";
}

function nesting(data: Nested): number[] {
  const shape: number[] = [];
  for (let level = data; Array.isArray(level); level = level[0] as Nested) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function flatten(data: Nested, shape: Shape): Float64Array {
  const out = new Float64Array(size(shape));
  let at = 0;
  const visit = (level: Nested, axis: number): void => {
    const isLeaf = axis === shape.length;
    const length = Array.isArray(level) ? level.length : undefined;
    if (isLeaf !== (length === undefined) || (!isLeaf && length !== shape[axis])) {
      throw new ShapeError(
        `tensor: the nesting is ragged: expected ${print(shape.slice(axis))}, got ${length ?? "a number"}`,
      );
    }
    if (isLeaf) out[at++] = Number(level);
    else for (const item of level as readonly Nested[]) visit(item, axis + 1);
  };
  visit(data, 0);
  return out;
}

/** Values as they lie on the device, padded to whole words. */
function encode(dtype: DType, values: ArrayLike<number> & ArrayBufferView): ArrayBufferView<ArrayBuffer> {
  switch (dtype) {
    case "f32":
      return values instanceof Float32Array ? (values as Float32Array<ArrayBuffer>) : Float32Array.from(values);
    case "i32":
      return values instanceof Int32Array ? (values as Int32Array<ArrayBuffer>) : Int32Array.from(values);
    case "u32":
      return values instanceof Uint32Array ? (values as Uint32Array<ArrayBuffer>) : Uint32Array.from(values);
    case "bool":
      return Uint32Array.from(values, (value) => (value ? 1 : 0));
    case "f16":
    case "bf16": {
      const halves = new Uint16Array(Math.ceil(values.length / 2) * 2);
      if (values instanceof Uint16Array) halves.set(values);
      else halves.set(Array.from(values, dtype === "bf16" ? toBf16 : toF16));
      return halves;
    }
  }
}

const fill = defineKernel({
  name: "fill",
  inputs: [],
  outputs: ["y"],
  uniforms: { n: "u32", bits: "u32" },
  knobs: {},
  forms: () => ({ y: "words" }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_y(i, u.bits); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/**
 * A tensor that holds one value everywhere.
 *
 * @param value  rounded to the dtype
 * @throws {ShapeError} when an axis is no length
 */
export function full(device: Device, shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  checkShape(shape, "full");
  const word = new Uint32Array(encode(dtype, Float64Array.of(value, value)).buffer)[0] as number;
  const n = byteLength(dtype, size(shape)) / 4;
  return fill({}, { y: { shape, dtype } }, { n, bits: word }, { device }).y;
}

/** A tensor of zeros. */
export const zeros = (device: Device, shape: Shape, dtype: DType = "f32"): Tensor => full(device, shape, 0, dtype);

/** A tensor of ones. */
export const ones = (device: Device, shape: Shape, dtype: DType = "f32"): Tensor => full(device, shape, 1, dtype);

const range = defineKernel({
  name: "arange",
  inputs: [],
  outputs: ["y"],
  uniforms: { n: "u32", start: "f32", step: "f32", first: "i32", stride: "i32" },
  knobs: { type: ["f32", "i32", "u32"] },
  source: (bindings, { type }) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n) { return; }
    #if ${type === "f32"}
      store_y(i, u.start + f32(i) * u.step);
    #else
      store_y(i, ${type}(u.first + i32(i) * u.stride));
    #endif
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

/**
 * `start, start + step, …` up to but not including `stop`, as NumPy's.
 *
 * @returns [⌈(stop − start) / step⌉], [0] where the step leads away
 * @throws {ShapeError} when it has no end
 */
export function arange(device: Device, start: number, stop: number, step = 1, dtype: DType = "f32"): Tensor {
  const n = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isFinite(n)) throw new ShapeError(`arange: ${start} to ${stop} by ${step} is no finite range`);
  const type = scalarType(dtype);
  const whole = isFloat(dtype) ? { first: 0, stride: 0 } : { first: start, stride: step };
  return range({}, { y: { shape: [n], dtype } }, { n, start, step, ...whole }, { device, knobs: { type } }).y;
}
