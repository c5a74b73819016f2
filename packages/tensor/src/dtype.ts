/** Element types, the arrays they are read into, and how two of them meet. */

/**
 * f32, i32 and u32 are stored as they are; bool as one u32 of 0 or 1. f16 and bf16 are storage of two to a 32-bit word,
 * computed in f32.
 */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "bool";

export const dtypes: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32", "bool"];

/** What {@link Tensor.read} gives for a dtype: 16-bit floats are widened to f32, bool is 0 or 1. */
export type TypedArray<D extends DType = DType> = D extends "i32"
  ? Int32Array
  : D extends "u32"
    ? Uint32Array
    : D extends "bool"
      ? Uint8Array
      : Float32Array;

/** Bits of one element on the device. */
export const bits = (dtype: DType): 16 | 32 => (dtype === "f16" || dtype === "bf16" ? 16 : 32);

/** Bytes of `count` elements on the device, a multiple of 4. */
export const byteLength = (dtype: DType, count: number): number => Math.ceil((count * bits(dtype)) / 32) * 4;

export const isFloat = (dtype: DType): boolean => dtype === "f32" || dtype === "f16" || dtype === "bf16";

/** The WGSL type an element is computed in. */
export const scalarType = (dtype: DType): "f32" | "i32" | "u32" =>
  isFloat(dtype) ? "f32" : dtype === "i32" ? "i32" : "u32";

/** The dtype of `a ∘ b`, by PyTorch's rule: floats beat integers beat bool, f16 with bf16 gives f32, i32 with u32 gives i32. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (isFloat(a) && isFloat(b)) return "f32";
  if (isFloat(a)) return a;
  if (isFloat(b)) return b;
  if (a === "bool") return b;
  if (b === "bool") return a;
  return "i32";
}

const scratch = new DataView(new ArrayBuffer(4));

/** The bits of the bf16 nearest to `x` (through f32), ties to even; too large becomes infinity, NaN stays NaN. */
export function toBf16(x: number): number {
  scratch.setFloat32(0, x);
  const word = scratch.getUint32(0);
  if (Number.isNaN(x)) return (word >>> 16) | 0x40;
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number a bf16 stands for. */
export function fromBf16(half: number): number {
  scratch.setUint32(0, half << 16);
  return scratch.getFloat32(0);
}

/** The bits of the IEEE binary16 nearest to `x` (through f32), ties to even; too large becomes infinity. */
export function toF16(x: number): number {
  scratch.setFloat32(0, x);
  const word = scratch.getUint32(0);
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  // Below 2⁻¹⁴ the result is subnormal: adding the right power of two lets f32 do the rounding.
  if (magnitude < 0x38800000) {
    scratch.setUint32(0, magnitude);
    scratch.setFloat32(0, scratch.getFloat32(0) + 0.5);
    return sign | (scratch.getUint32(0) - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** The number an IEEE binary16 stands for. */
export function fromF16(half: number): number {
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  const sign = half & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
