/** The matrix product off the tape: which kernel serves which shapes, and how large operands are taken in parts. */
import { windowsOf } from "../bindings.ts";
import { bits, type DType } from "../dtype.ts";
import type { Device } from "../gpu/device.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import { scope } from "../scope.ts";
import { broadcast, broadcastStrides, mergeAxes, type Shape, size } from "../shape.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { expand } from "./expand.ts";
import { type Ending, endingInputs } from "./matmul-ending.wgsl.ts";
import { pack, panels, ROWS } from "./matmul-packed.wgsl.ts";
import { coverage, plain, type Tile, tiles } from "./matmul.wgsl.ts";
import { sum } from "./reduce.ts";

/** Which operands are read with their last two axes exchanged. */
export interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** Which kernel makes a product. */
export type ProductKernel = Tile | "packed" | "plain";

/** How a product is made. */
export interface ProductOptions {
  readonly ending?: Ending;
  /** Forces a kernel, for tests and benchmarks. */
  readonly kernel?: ProductKernel | undefined;
  /** An f32 tensor as large as the product, which is added to it; it is the result. */
  readonly into?: Tensor;
}

/** The axes of the batch. */
export const lead = ({ shape }: Tensor): Shape => shape.slice(0, -2);

/** Whether all of `a` meets one and the same `b`, so that the leading axes count as rows. */
export const isOneProduct = (a: Tensor, b: Tensor, transposeA: boolean): boolean =>
  !transposeA && b.rank <= a.rank && size(lead(b)) === 1;

/** [..., M, N] as [... · M, N]. */
export const asMatrix = (x: Tensor): Tensor => x.alias([size(x.shape.slice(0, -1)), x.shape.at(-1) as number]);

/** The lengths of the last two axes as the product sees them. */
function matrix({ shape }: Tensor, transposed: boolean): readonly [number, number] {
  const [p, q] = shape.slice(-2) as [number, number];
  return transposed ? [q, p] : [p, q];
}

/** One product, measured. */
interface Plan {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly transposes: Transposes;
  readonly batch: Shape;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Which tensors are whole vectors of four. */
  readonly wide: { readonly a: boolean; readonly b: boolean; readonly y: boolean };
}

function planOf(a: Tensor, b: Tensor, transposes: Transposes): Plan {
  const { transposeA, transposeB } = transposes;
  const batch = broadcast(lead(a), lead(b), "matmul");
  const [m, k] = matrix(a, transposeA);
  const n = matrix(b, transposeB)[1];
  const wide = { a: (transposeA ? m : k) % 4 === 0, b: (transposeB ? k : n) % 4 === 0, y: n % 4 === 0 };
  return { a, b, transposes, batch, m, n, k, wide };
}

/**
 * The product, off the tape.
 *
 * @param dtype  of the result
 */
export function multiply(
  a: Tensor,
  b: Tensor,
  transposes: Transposes,
  dtype: DType,
  options: ProductOptions = {},
): Tensor {
  const plan = planOf(a, b, transposes);
  const { batch, m, n, k, wide } = plan;
  const { transposeA, transposeB } = transposes;
  const { ending = {}, kernel = forced, into } = options;
  const shape = [...batch, m, n];
  if (k === 0) {
    const nothing = (x: Tensor, rows: number): Tensor => full(a.device, [...lead(x), rows, 1], 0);
    const isEnding = ending.bias || ending.activation || ending.residual;
    if (!isEnding) return into ?? full(a.device, shape, 0, dtype);
    return multiply(nothing(a, m), nothing(b, n), { transposeA: false, transposeB: true }, dtype, options);
  }
  if (batch.length > 0 && isOneProduct(a, b, transposeA)) {
    return multiply(asMatrix(a), b.alias(b.shape.slice(-2)), transposes, dtype, options).alias(shape);
  }
  // A vector is the same whether transposed or not, and a single column is made as a single row.
  if (n === 1 && m > 1 && !ending.bias) {
    const row = b.alias([...lead(b), 1, k]);
    return multiply(row, a, { transposeA: false, transposeB: !transposeA }, dtype, options).alias(shape);
  }
  if (m === 1 && transposeA) {
    return multiply(a.alias([...lead(a), 1, k]), b, { transposeA: false, transposeB }, dtype, options);
  }
  const walk = walkOf(batch, a, b);
  if (!walk) return multiply(repeated(a, batch), repeated(b, batch), transposes, dtype, options);
  if (kernel === "packed" ? canPack(plan) : !kernel && packs(plan)) return packed(plan, walk, dtype, options);
  if (into) {
    const part = multiply(a, b, transposes, "f32", { ending, kernel });
    const isWide = part.size % 4 === 0;
    addTo({ part, y: into }, {}, { n: part.size / (isWide ? 4 : 1) }, { knobs: { form: isWide ? "vec4" : "scalar" } });
    part.dispose();
    return into;
  }
  const slices = kernel || Object.keys(ending).length > 0 ? 1 : slicesOf(plan);
  if (slices > 1) {
    const cut = (x: Tensor): Tensor => x.alias([slices, k / slices, x.shape[1] as number]);
    return cast(sum(multiply(cut(a), cut(b), transposes, "f32"), 0), dtype);
  }
  const strides = scaled(walk, m * k, k * n);
  // Where a tensor takes several bindings every load and store is a choice: much code, which some drivers choke on.
  const windowed = isWindowed(plan);
  const small = size(shape) * k <= SMALL || (windowed && !(wide.a && wide.b && wide.y));
  const tensors = { a, b, ...endingInputs(ending) };
  if (kernel === "plain" || (small && !kernel)) {
    const [rowA, stepA] = transposeA ? [1, m] : [k, 1];
    const [stepB, columnB] = transposeB ? [1, k] : [n, 1];
    const sizes = { m, n, k, size: size(shape), rowA, stepA, stepB, columnB };
    return plain(ending)(tensors, { y: { shape, dtype } }, { ...sizes, ...strides }).y;
  }
  const layout = {
    transposeA,
    transposeB,
    wideA: wide.a,
    wideB: wide.b,
    wideY: wide.y,
    ragged: k % 4 !== 0,
  };
  const chosen = typeof kernel === "object" ? kernel : choose(a.device, windowed ? Math.min(m, 4) : m, transposeB);
  const [columns, rows] = coverage(chosen);
  const across = Math.ceil(n / columns);
  const down = Math.ceil(m / rows);
  const groups = across * down * size(batch);
  const counts = { m, n, k, across, down, groups, ...strides };
  return tiles(layout, ending)(tensors, { y: { shape, dtype } }, counts, { knobs: chosen }).y;
}

/** The sum of two tensors, in the place of one. */
const addTo = defineKernel({
  name: "matmul.add",
  inputs: ["part"],
  outputs: [],
  updates: ["y"],
  uniforms: { n: "u32" },
  knobs: { form: ["vec4", "scalar"] },
  forms: ({ form }) => ({ part: form, y: form }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_y(i, load_y(i) + load_part(i)); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

let forced: ProductKernel | undefined;

const kernels: Readonly<Record<string, ProductKernel>> = {
  packed: "packed",
  plain: "plain",
  shared: { rows: 16, arrangement: "shared" },
  block: { rows: 8, arrangement: "block" },
  columns: { rows: 4, arrangement: "columns" },
  dots: { rows: 1, arrangement: "dots" },
};

/** All the kernels of a product as one, for tests and benchmarks of what ends in one. */
export const productKernel: Kernel = {
  kernelName: "matmul",
  settings: () => Object.keys(kernels).map((kernel) => ({ kernel })),
  runsOn(device, setting) {
    const kernel = setting["kernel"];
    return kernel === "packed" ? isVectorUnit(device) : kernel !== "shared" || device.subgroupSize > 0;
  },
  with(setting, f) {
    const was = forced;
    forced = kernels[setting["kernel"] as string];
    try {
      return f();
    } finally {
      forced = was;
    }
  },
};

/** Up to so many products of two numbers the plain kernel serves. */
const SMALL = 2 ** 16;

const isWindowed = ({ a, b, batch, m, n }: Plan): boolean =>
  [a.bytes, b.bytes, 4 * size(batch) * m * n].some((bytes) => windowsOf(bytes, a.device.limits) > 1);

/** Whether a device runs a subgroup's lanes as one vector of a CPU. */
const isVectorUnit = ({ kind, subgroupSize }: Device): boolean =>
  kind !== "hardware" && subgroupSize >= 4 && subgroupSize <= 16;

/** The tile that suits an adapter and a height; the rest of the shape matters less. */
function choose(device: Device, m: number, transposeB: boolean): Tile {
  if (isVectorUnit(device)) {
    return { rows: m > 8 ? 16 : m > 4 ? 8 : m > 1 ? 4 : 1, arrangement: "shared" };
  }
  if (m > 4) return { rows: 8, arrangement: "block" };
  return { rows: m > 1 ? 4 : 1, arrangement: transposeB ? "dots" : "columns" };
}

/** Workgroups of a tile that keep a device busy, and steps of k that are worth a second round. */
const BUSY = { hardware: 256, software: 8 } as const;
const LEAST_STEPS = 1024;

/**
 * Into how many parts k is cut where the result is too small to keep the device busy. Only where both operands lie k
 * first, as they do in the gradient of a weight, for there a part is one matrix of a batch.
 */
function slicesOf({ a, transposes, batch, m, n, k }: Plan): number {
  if (batch.length > 0 || !transposes.transposeA || transposes.transposeB) return 1;
  const [columns, rows] = coverage(choose(a.device, m, false));
  const groups = Math.ceil(n / columns) * Math.ceil(m / rows);
  const wished = Math.min((a.device.kind === "hardware" ? BUSY.hardware : BUSY.software) / groups, k / LEAST_STEPS);
  for (let slices = Math.floor(wished); slices > 1; slices--) if (k % slices === 0) return slices;
  return 1;
}

/** Bytes of one packed operand at a time. */
const WORKSPACE = 2 ** 23;

/**
 * Whether packing pays: each element is packed once and used for every row or column of the other operand. Where an
 * operand is no whole vectors, the other kernels read it element by element, and it pays sooner; where one is 16 bits wide
 * they read half as much, and it pays later. Measured on lavapipe.
 */
function packs(plan: Plan): boolean {
  const { a, b, m, n, k, wide } = plan;
  if (m < ROWS || k < ROWS || !canPack(plan)) return false;
  const uses = (size(plan.batch) * m * n) / (size(lead(a)) * m + size(lead(b)) * n);
  // Over several bindings the other kernels take few rows a tile.
  if (isWindowed(plan)) return uses >= 16;
  if (!(wide.a && wide.b && wide.y)) return uses >= 32;
  return uses >= (bits(a.dtype) + bits(b.dtype) === 64 ? 300 : 600);
}

/** Whether the device and the sizes allow it at all. */
const canPack = (plan: Plan): boolean => isVectorUnit(plan.a.device) && partsOf(plan) !== null;

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

/** The product by panels, a part of the rows and columns at a time. */
function packed(plan: Plan, walk: Walk, dtype: DType, { ending = {}, into }: ProductOptions): Tensor {
  const { a, b, transposes, batch, m, n, k, wide } = plan;
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

/**
 * How a batch walks through the matrices of both operands over [outer, inner]; null where broadcasting alternates more
 * often than that.
 */
function walkOf(batch: Shape, a: Tensor, b: Tensor) {
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

type Walk = NonNullable<ReturnType<typeof walkOf>>;

/** The same in elements or vectors, of which a matrix has so many. */
const scaled = ({ inner, aOuter, aInner, bOuter, bInner }: Walk, sizeA: number, sizeB: number): Walk => ({
  inner,
  aOuter: aOuter * sizeA,
  aInner: aInner * sizeA,
  bOuter: bOuter * sizeB,
  bInner: bInner * sizeB,
});

/** A batch of matrices repeated to all the leading axes. */
const repeated = (x: Tensor, batch: Shape): Tensor => expand(x, [...batch, ...x.shape.slice(-2)]);
