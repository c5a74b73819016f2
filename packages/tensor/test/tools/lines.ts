/** What tests of ops along axes share: lines of a host array, noise with edge cases in it, dtypes as they are stored. */
import { type DType, fromBf16, fromF16, toBf16, toF16 } from "../../src/dtype.ts";
import { Random } from "../../src/cases.ts";
import type { Device } from "../../src/gpu/device.ts";
import { type Shape, size } from "../../src/shape.ts";
import { at, build, indicesOf, type Plain } from "./arrays.ts";

/** Every line along an axis is replaced by `f` of it, which may have another length. */
export function mapLines(x: Plain, axis: number, f: (line: readonly number[]) => readonly number[]): Plain {
  const { shape } = x;
  const length = shape[axis] as number;
  const lines = new Map<string, readonly number[]>();
  const keyOf = (index: readonly number[]): string => index.toSpliced(axis, 1).join();
  let width = f(Array<number>(length).fill(0)).length;
  for (const index of indicesOf(shape.with(axis, 1))) {
    const line = f(Array.from({ length }, (_, k) => at(x, index.with(axis, k))));
    lines.set(keyOf(index), line);
    width = line.length;
  }
  return build(shape.with(axis, width), (index) => lines.get(keyOf(index))?.[index[axis] as number] as number);
}

/** Every group of elements that differ only along `axes` is replaced by one number; the axes stay with length 1. */
export function reduceGroups(x: Plain, axes: readonly number[], f: (group: readonly number[]) => number): Plain {
  const kept = x.shape.map((n, d) => (axes.includes(d) ? 1 : n));
  const groups = new Map<string, number[]>();
  const keyOf = (index: readonly number[]): string => index.map((i, d) => (axes.includes(d) ? 0 : i)).join();
  for (const index of indicesOf(kept)) groups.set(index.join(), []);
  for (const index of indicesOf(x.shape)) groups.get(keyOf(index))?.push(at(x, index));
  return build(kept, (index) => f(groups.get(index.join()) as number[]));
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
