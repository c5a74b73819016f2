/** What tests of ops along axes share: lines of a host array, noise with edge cases in it, dtypes as they are stored. */
import { type DType, fromBf16, fromF16, toBf16, toF16 } from "../../src/dtype.ts";
import { Random } from "../../src/cases.ts";
import type { Device } from "../../src/gpu/device.ts";
import { type Shape, size, strides } from "../../src/shape.ts";
import type { Plain } from "./arrays.ts";

/** Every line along an axis is replaced by `f` of it, which may have another length. */
export function mapLines(x: Plain, axis: number, f: (line: readonly number[]) => readonly number[]): Plain {
  const length = x.shape[axis] as number;
  const inner = size(x.shape.slice(axis + 1));
  const width = f(Array<number>(length).fill(0)).length;
  const shape = x.shape.with(axis, width);
  const values = Array<number>(size(shape));
  for (let line = 0; line < size(shape.with(axis, 1)); line++) {
    const [outer, column] = [Math.floor(line / inner), line % inner];
    const elements = Array.from({ length }, (_, k) => x.values[(outer * length + k) * inner + column] as number);
    for (const [k, y] of f(elements).entries()) values[(outer * width + k) * inner + column] = y;
  }
  return { shape, values };
}

/** The elements that differ only along `axes`, for each index of the shape where these have length 1. */
export function groupsOf(x: Plain, axes: readonly number[]): { kept: Shape; groups: number[][] } {
  const kept = x.shape.map((n, d) => (axes.includes(d) ? 1 : n));
  const steps = strides(kept).map((step, d) => (axes.includes(d) ? 0 : step));
  const groups = Array.from({ length: size(kept) }, (): number[] => []);
  const visit = (axis: number, begin: number, spread: number, group: number): void => {
    if (axis === kept.length) return void groups[group]?.push(x.values[begin] as number);
    const length = x.shape[axis] as number;
    const next = spread / length;
    for (let i = 0; i < length; i++) visit(axis + 1, begin + i * next, next, group + i * (steps[axis] as number));
  };
  if (x.values.length > 0) visit(0, 0, x.values.length, 0);
  return { kept, groups };
}

/** Every group of elements that differ only along `axes` is replaced by one number; the axes stay with length 1. */
export function reduceGroups(x: Plain, axes: readonly number[], f: (group: readonly number[]) => number): Plain {
  const { kept, groups } = groupsOf(x, axes);
  return { shape: kept, values: groups.map(f) };
}

/** The value of a number once it is stored in a dtype. */
export function stored(dtype: DType, value: number): number {
  switch (dtype) {
    case "f32":
      return Math.fround(value);
    case "f16":
      return fromF16(toF16(value));
    case "bf16":
      return fromBf16(toBf16(value));
    case "i32":
      return value | 0;
    case "u32":
      return value >>> 0;
    case "bool":
      return value ? 1 : 0;
  }
}

/** Seeded noise that a dtype holds exactly: normal for floats, small whole numbers otherwise. */
export function noise(device: Device, seed: number, shape: Shape, dtype: DType, scale = 1): Plain {
  const random = new Random(device, seed);
  const draw = (): number => {
    if (dtype === "f32" || dtype === "f16" || dtype === "bf16")
      return stored(dtype, random.normals(1, scale)[0] as number);
    if (dtype === "bool") return random.integer(0, 2);
    return random.integer(dtype === "i32" ? -9 : 0, 10);
  };
  return { shape, values: Array.from({ length: size(shape) }, draw) };
}

/** How far results of a dtype may be off beside those of double precision. */
export const toleranceOf = (dtype: DType): { absolute: number; relative: number } =>
  dtype === "f16"
    ? { absolute: 1e-6, relative: 2 ** -10 }
    : dtype === "bf16"
      ? { absolute: 1e-6, relative: 2 ** -7.5 }
      : { absolute: 1e-6, relative: 1e-6 };
