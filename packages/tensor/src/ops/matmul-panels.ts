/** The product by panels: when it pays, and how large operands are packed a part at a time. */
import { windowsOf } from "../bindings.ts";
import { bits } from "../dtype.ts";
import { scope } from "../scope.ts";
import { size } from "../shape.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { endingInputs } from "./matmul-ending.wgsl.ts";
import { pack, panels, ROWS } from "./matmul-packed.wgsl.ts";
import { isVectorUnit, lead, type Plan, scaled } from "./matmul-plan.ts";

/** Bytes of one packed operand at a time. */
const WORKSPACE = 2 ** 23;

/**
 * Whether packing pays: each element is packed once and used for every row or column of the other operand. Where an
 * operand is no whole vectors, the other kernels read it element by element, and it pays sooner; where one is 16 bits wide
 * they read half as much, and it pays later. Measured on lavapipe.
 */
export function packs(plan: Plan): boolean {
  const { a, b, m, n, k, wide } = plan;
  if (m < ROWS || k < ROWS || !canPack(plan)) return false;
  const uses = (size(plan.batch) * m * n) / (size(lead(a)) * m + size(lead(b)) * n);
  // Over several bindings the other kernels take few rows a tile.
  if (plan.windowed) return uses >= 16;
  if (!(wide.a && wide.b && wide.y)) return uses >= 32;
  return uses >= (bits(a.dtype) + bits(b.dtype) === 64 ? 150 : 600);
}

/** Whether the device and the sizes allow it at all. */
export const canPack = (plan: Plan): boolean => isVectorUnit(plan.a.device) && partsOf(plan) !== null;

/** Rows of `a` and columns of `b` that are packed at a time; null where it cannot be done. */
function partsOf({ a, b, batch, m, n, k, wide }: Plan): readonly [rows: number, columns: number] | null {
  const { limits, subgroupSize } = a.device;
  const most = Math.min(WORKSPACE, limits.maxStorageBufferBindingSize);
  const line = 16 * Math.ceil(k / 4);
  const part = (x: Tensor, length: number, panel: number): number => {
    const whole = Math.ceil(length / panel) * panel;
    return Math.min(whole, Math.floor(most / line / size(lead(x)) / panel) * panel);
  };
  const [rows, columns] = [part(a, m, ROWS), part(b, n, 4 * subgroupSize)];
  const isScattered = (x: Tensor | number, isWide: boolean): boolean =>
    !isWide && windowsOf(typeof x === "number" ? x : x.bytes, limits) > 1;
  if (isScattered(a, wide.a) || isScattered(b, wide.b) || isScattered(4 * size(batch) * m * n, wide.y)) return null;
  return rows > 0 && columns > 0 ? [rows, columns] : null;
}

/** The product by panels, a part of the rows and columns at a time. Only where {@link canPack}. */
export function packed(plan: Plan): Tensor {
  const { a, b, transposes, dtype, ending, into, batch, walk, m, n, k, wide } = plan;
  const parts = partsOf(plan);
  const lanes = a.device.subgroupSize;
  const steps = Math.ceil(k / 4);
  const y = into ?? emptyTensor(a.device, { shape: [...batch, m, n], dtype: "f32" }, "matmul");
  if (parts === null || y.size === 0) return y;
  const [rows, columns] = parts;
  const panelsOf = (length: number, first: number, part: number, panel: number): number =>
    Math.ceil(Math.min(part, length - first) / panel);

  const packA = (first: number): Tensor => {
    const down = panelsOf(m, first, rows, ROWS);
    const packing = { operand: "a", isKFirst: transposes.transposeA, wide: wide.a } as const;
    const matrices = size(lead(a));
    const spec = { shape: [matrices, down, steps, 4 * ROWS], dtype: "f32" } as const;
    const blocks = (matrices * down * steps * ROWS) / 4;
    return pack(packing)({ x: a }, { y: spec }, { length: m, first, k, panels: down, steps, blocks }).y;
  };
  const packB = (first: number): Tensor => {
    const across = panelsOf(n, first, columns, 4 * lanes);
    const packing = { operand: "b", isKFirst: !transposes.transposeB, wide: wide.b } as const;
    const matrices = size(lead(b));
    const spec = { shape: [matrices, across, steps, 16 * lanes], dtype: "f32" } as const;
    const blocks = matrices * across * steps * lanes;
    return pack(packing)({ x: b }, { y: spec }, { length: n, first, k, panels: across, steps, blocks }).y;
  };

  const product = panels(ending, wide.y, into !== undefined);
  scope(() => {
    const once = rows >= m ? packA(0) : null;
    for (let firstColumn = 0; firstColumn < n; firstColumn += columns) {
      scope(() => {
        const right = packB(firstColumn);
        for (let firstRow = 0; firstRow < m; firstRow += rows) {
          const left = once ?? packA(firstRow);
          const [down, across] = [left.shape[1] as number, right.shape[1] as number];
          const strides = scaled(walk, down * steps * ROWS, across * steps * 4 * lanes);
          const tensors = { a: left, b: right, y, ...endingInputs(ending) };
          const tiles = across * down * size(batch);
          product(tensors, {}, { m, n, firstRow, firstColumn, steps, across, down, tiles, ...strides });
          if (!once) left.dispose();
        }
      });
    }
  });
  return dtype === "f32" ? y : cast(y, dtype);
}
