/** The matrix product off the tape. */
import type { DType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { broadcast, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";
import { expand } from "./expand.ts";
import type { Ending } from "./matmul-ending.wgsl.ts";
import { matrices, matrixCoverage } from "./matmul-matrix.wgsl.ts";
import { packed } from "./matmul-panels.ts";
import { lead, matrix, type Plan, planOf, scaled, tensorsOf, type Transposes, walkOf } from "./matmul-plan.ts";
import { partsOf, type ProductSetting, settingOf } from "./matmul-settings.ts";
import { vector, vectorCoverage } from "./matmul-vector.wgsl.ts";
import { coverage, plain, tiles } from "./matmul.wgsl.ts";
import { sum } from "./reduce.ts";

/** What a product may be told. */
export interface ProductOptions {
  readonly ending?: Ending;
  /** An f32 tensor as large as the product, which is added to it; it is the result. */
  readonly into?: Tensor;
}

/** Whether all of `a` meets one and the same `b`, so that the leading axes count as rows. */
export const isOneProduct = (a: Tensor, b: Tensor, transposeA: boolean): boolean =>
  !transposeA && b.rank <= a.rank && size(lead(b)) === 1;

/** [..., M, N] as [... · M, N]. */
export const asMatrix = (x: Tensor): Tensor => x.alias([size(x.shape.slice(0, -1)), x.shape.at(-1) as number]);

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
  const { transposeA, transposeB } = transposes;
  const { ending = {}, into } = options;
  const batch = broadcast(lead(a), lead(b), "matmul");
  const [m, k] = matrix(a, transposeA);
  const n = matrix(b, transposeB)[1];
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
  const plan = planOf({ a, b, transposes, dtype, ending, into, batch, walk });
  return make(plan, settingOf(plan, make));
}

/** A batch of matrices repeated to all the leading axes. */
const repeated = (x: Tensor, batch: Shape): Tensor => expand(x, [...batch, ...x.shape.slice(-2)]);

/** Makes a product in one of the ways that serve it. */
function make(plan: Plan, setting: ProductSetting): Tensor {
  const { into } = plan;
  if (setting.kernel === "packed") return packed(plan);
  if (!into) return setting.kernel === "split" ? split(plan) : dispatch(plan, setting);
  const part = make({ ...plan, into: undefined, dtype: "f32" }, setting);
  const isWide = part.size % 4 === 0;
  addTo({ part, y: into }, {}, { n: part.size / (isWide ? 4 : 1) }, { knobs: { form: isWide ? "vec4" : "scalar" } });
  part.dispose();
  return into;
}

/** One kernel, one dispatch. */
function dispatch(plan: Plan, setting: Exclude<ProductSetting, { kernel: "packed" | "split" }>): Tensor {
  const { transposes, dtype, ending, batch, walk, m, n, k, wide } = plan;
  const { transposeA, transposeB } = transposes;
  const y = { shape: [...batch, m, n], dtype };
  const strides = scaled(walk, m * k, k * n);
  if (setting.kernel === "plain") {
    const [rowA, stepA] = transposeA ? [1, m] : [k, 1];
    const [stepB, columnB] = transposeB ? [1, k] : [n, 1];
    const sizes = { m, n, k, size: size(y.shape), rowA, stepA, stepB, columnB };
    return plain(ending)(tensorsOf(plan), { y }, { ...sizes, ...strides }).y;
  }
  const half = plan.a.device.arithmetic === "f16";
  const layout = { transposeA, transposeB, wideA: wide.a, wideB: wide.b, wideY: wide.y, ragged: k % 4 !== 0, half };
  const countsOf = ([width, height]: readonly [number, number]) => {
    const [across, down] = [Math.ceil(n / width), Math.ceil(m / height)];
    return { m, n, k, across, down, groups: across * down * size(batch), ...strides };
  };
  if (setting.kernel === "matrices") {
    const { blocks } = setting;
    const counts = countsOf(matrixCoverage(plan.a.device, blocks));
    return matrices(layout, ending)(tensorsOf(plan), { y }, counts, { knobs: { blocks } }).y;
  }
  if (setting.kernel === "vector") {
    const { rows } = setting;
    const counts = countsOf(vectorCoverage(plan.a.device, rows));
    return vector(plan.b.dtype, ending)(tensorsOf(plan), { y }, counts, { knobs: { rows } }).y;
  }
  const { rows, arrangement } = setting;
  return tiles(layout, ending)(tensorsOf(plan), { y }, countsOf(coverage(setting)), { knobs: { rows, arrangement } }).y;
}

/** The product in parts of k, which are added up. */
function split(plan: Plan): Tensor {
  const { a, b, transposes, dtype, k } = plan;
  const parts = partsOf(plan);
  const cut = (x: Tensor): Tensor => x.alias([parts, k / parts, x.shape[1] as number]);
  return cast(sum(multiply(cut(a), cut(b), transposes, "f32"), 0), dtype);
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
