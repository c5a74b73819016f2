/**
 * The product on tensor cores, by WGSL's experimental subgroup matrices: a workgroup brings tiles of both operands into its
 * memory, whatever their dtypes and layouts, and each of its subgroups multiplies a part of them.
 *
 * The lengths in a matrix's type are columns, rows: `subgroup_matrix_left<T, K, M>`.
 */
import { DeviceError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { type CallableKernel, defineKernel, type KernelSpec } from "../kernel.ts";
import { main, wgsl } from "../wgsl.ts";
import { type Ending, endingInputs, endingKey, finish } from "./matmul-ending.wgsl.ts";
import { count, type Layout, tileUniforms } from "./matmul.wgsl.ts";

/** The matrices that a device multiplies: [M, K] by [K, N], of one type, with sums in f32. */
export interface MatrixShape {
  readonly type: "f16" | "f32";
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Lanes of a subgroup. */
  readonly lanes: number;
}

/** What an adapter says of its matrices; `@webgpu/types` does not have it yet. */
interface MatrixInfo {
  readonly subgroupMatrixConfigs?: Iterable<
    Readonly<Record<"componentType" | "resultComponentType", string> & Record<"M" | "N" | "K", number>>
  >;
}

const FEATURE = "chromium-experimental-subgroup-matrix";

/** The matrices that suit a device; null where it has none, or only those of f16 and nobody asked for such arithmetic. */
export function matrixShape({ features, info, arithmetic, subgroupSize }: Device): MatrixShape | null {
  const lanes = subgroupSize || (features.has("subgroup-size-control") ? (info.subgroupMaxSize ?? 0) : 0);
  if (!features.has(FEATURE) || lanes === 0) return null;
  const configs = [...((info as MatrixInfo).subgroupMatrixConfigs ?? [])];
  for (const type of arithmetic === "f16" ? (["f16", "f32"] as const) : (["f32"] as const)) {
    const found = configs.find((one) => one.componentType === type && one.resultComponentType === "f32");
    if (found) return { type, M: found.M, N: found.N, K: found.K, lanes };
  }
  return null;
}

const knobs = {
  /** Matrices of the result along each axis that one subgroup keeps. */
  blocks: [2, 4],
} as const;

/** Subgroups of a workgroup along each axis of the result. */
const SIDE = 2;
/** Steps of k that are brought in at a time. */
const DEPTH = 32;

/** Columns and rows of the result that one workgroup makes. */
export function matrixCoverage(device: Device, blocks: number): readonly [columns: number, rows: number] {
  const { M, N } = shapeOn(device);
  return [SIDE * blocks * N, SIDE * blocks * M];
}

/** Whether a device has matrices that serve, and the memory of a workgroup for both tiles and what is on its way out. */
export function hasMatrices(device: Device, blocks: number): boolean {
  const shape = matrixShape(device);
  if (!shape) return false;
  const [columns, rows] = matrixCoverage(device, blocks);
  const bytes = DEPTH * (rows + columns) * (shape.type === "f16" ? 2 : 4) + SIDE * shape.M * columns * 4;
  return bytes <= device.limits.maxComputeWorkgroupStorageSize;
}

function shapeOn(device: Device): MatrixShape {
  const shape = matrixShape(device);
  if (!shape) throw new DeviceError(`matmul.matrices: ${device.name} has no subgroup matrices of a type that serves`);
  return shape;
}

type MatrixKernel = CallableKernel<string, "y", never, typeof tileUniforms, typeof knobs>;

const kernels = new Map<string, MatrixKernel>();

/** The kernel of one layout and ending. */
export function matrices(layout: Layout, ending: Ending): MatrixKernel {
  const key = `${Object.values(layout).join()} ${endingKey(ending)}`;
  let kernel = kernels.get(key);
  if (!kernel) kernels.set(key, (kernel = defineKernel(matrixSpec(layout, ending))));
  return kernel;
}

/** What {@link matrices} are made of, for tests. */
export function matrixSpec(
  layout: Layout,
  ending: Ending,
): KernelSpec<string, "y", never, typeof tileUniforms, typeof knobs> {
  const { transposeA, transposeB, wideA, wideB, wideY } = layout;
  const more = Object.keys(endingInputs(ending));
  const form = (wide: boolean): "vec4" | "scalar" => (wide ? "vec4" : "scalar");
  return {
    name: "matmul.matrices",
    inputs: ["a", "b", ...more],
    outputs: ["y"],
    uniforms: tileUniforms,
    knobs,
    forms: () => ({
      a: form(wideA),
      b: form(wideB),
      ...Object.fromEntries(["y", ...more].map((name) => [name, form(wideY)])),
    }),
    source(bindings, { blocks }, device) {
      const shape = shapeOn(device);
      const { type, M, N, K, lanes } = shape;
      const [columns, rows] = matrixCoverage(device, blocks);
      const workers = SIDE * SIDE * lanes;
      const each = (f: (block: number) => string): string => count(blocks).map(f).join("\n");
      return wgsl`
        enable subgroups;
        enable ${FEATURE.replaceAll("-", "_")};
        #if ${type === "f16"}
          enable f16;
        #endif
        #if ${device.subgroupSize === 0}
          enable subgroup_size_control;
        #endif
        requires subgroup_id;
        ${bindings}
        var<workgroup> tile_a: array<${type}, ${rows * DEPTH}>;
        var<workgroup> tile_b: array<${type}, ${columns * DEPTH}>;
        var<workgroup> leaving: array<f32, ${SIDE * M * columns}>;
        ${matrixFunctions(shape, {
          left: transposeA ? `col_major>(&tile_a, at, ${rows}u` : `row_major>(&tile_a, at, ${DEPTH}u`,
          right: transposeB ? `col_major>(&tile_b, at, ${DEPTH}u` : `row_major>(&tile_b, at, ${columns}u`,
          sums: `row_major>(&leaving, at, sums, ${blocks * N}u`,
        })}
        ${finish(ending, wideY)}
        ${bring("a", { isKFirst: transposeA, wide: wideA, length: rows, workers, type })}
        ${bring("b", { isKFirst: !transposeB, wide: wideB, length: columns, workers, type })}

        /** Stores a row of matrices that lies at \`place\` in \`leaving\`, beginning with \`column\` of \`row\`. */
        fn leave(place: u32, row: u32, column: u32, batch: u32, lane: u32) {
          for (var i = lane; i < ${(M * N * blocks) / 4}u; i += ${lanes}u) {
            let r = row + i / ${(N * blocks) / 4}u;
            let c = column + i % ${(N * blocks) / 4}u * 4u;
            let at = place + i * 4u;
            let four = vec4f(leaving[at], leaving[at + 1u], leaving[at + 2u], leaving[at + 3u]);
            let start = (batch * u.m + r) * u.n + c;
            #if ${wideY}
              if (r < u.m && c < u.n) { store_y(start / 4u, finish(four, start / 4u, c / 4u)); }
            #else
              for (var j = 0u; j < 4u && r < u.m && c + j < u.n; j++) {
                store_y(start + j, finish(four[j], start + j, c + j));
              }
            #endif
          }
        }

        #if ${device.subgroupSize === 0}
          @subgroup_size(${lanes})
        #endif
        ${main(workers, { subgroups: true, subgroupId: true })}
          if (group >= u.groups) { return; }
          let batch = group / (u.across * u.down);
          let firstRow = group / u.across % u.down * ${rows}u;
          let firstColumn = group % u.across * ${columns}u;
          let batchA = batch / u.inner * u.aOuter + batch % u.inner * u.aInner;
          let batchB = batch / u.inner * u.bOuter + batch % u.inner * u.bInner;
          let row = subgroup / ${SIDE}u * ${blocks * M}u;
          let column = subgroup % ${SIDE}u * ${blocks * N}u;
          ${each((i) => each((j) => `var y_${i}_${j}: Sums;`))}
          for (var k = 0u; k < u.k; k += ${DEPTH}u) {
            workgroupBarrier();
            bring_a(batchA, firstRow, k, lane);
            bring_b(batchB, firstColumn, k, lane);
            workgroupBarrier();
            for (var step = 0u; step < ${DEPTH}u; step += ${K}u) {
              ${each((i) => `let a_${i} = left(${at("row", i * M, rows, transposeA)});`)}
              ${each((j) => `let b_${j} = right(${at("column", j * N, columns, !transposeB)});`)}
              ${each((i) => each((j) => `y_${i}_${j} = multiply_add(a_${i}, b_${j}, y_${i}_${j});`))}
            }
          }
          let place = subgroup * ${M * N * blocks}u;
          ${each(
            (i) => `
              workgroupBarrier();
              ${each((j) => `give(place + ${j * N}u, y_${i}_${j});`)}
              workgroupBarrier();
              leave(place, firstRow + row + ${i * M}u, firstColumn + column, batch, subgroupLane);`,
          )}
        }`;
    },
    grid: ({ groups }) => groups,
  };
}

/** Where a matrix begins in a tile, at \`step\`. */
const at = (position: string, offset: number, length: number, isKFirst: boolean): string =>
  isKFirst ? `step * ${length}u + ${position} + ${offset}u` : `(${position} + ${offset}u) * ${DEPTH}u + step`;

/** What the kernel asks of subgroup matrices, in one place: where they are read and written, and how they are multiplied. */
const matrixFunctions = (
  { type, M, N, K }: MatrixShape,
  { left, right, sums }: Readonly<Record<"left" | "right" | "sums", string>>,
): string => `
  alias Left = subgroup_matrix_left<${type}, ${K}, ${M}>;
  alias Right = subgroup_matrix_right<${type}, ${N}, ${K}>;
  alias Sums = subgroup_matrix_result<f32, ${N}, ${M}>;
  fn left(at: u32) -> Left { return subgroupMatrixLoad<Left, ${left}); }
  fn right(at: u32) -> Right { return subgroupMatrixLoad<Right, ${right}); }
  fn multiply_add(l: Left, r: Right, sums: Sums) -> Sums { return subgroupMatrixMultiplyAccumulate(l, r, sums); }
  fn give(at: u32, sums: Sums) { subgroupMatrixStore<${sums}); }`;

interface Bringing {
  /** k is the first of the operand's two axes, and of its tile's. */
  readonly isKFirst: boolean;
  readonly wide: boolean;
  /** Rows or columns of the tile. */
  readonly length: number;
  readonly workers: number;
  readonly type: string;
}

/**
 * WGSL for `bring_x(batch, first, k, lane)`: fills the tile of an operand, four elements at a time along its last axis.
 * What lies past the end of k is 0; rows and columns past their end are not stored in the end, and may be anything.
 */
function bring(name: "a" | "b", { isKFirst, wide, length, workers, type }: Bringing): string {
  const end = name === "a" ? "u.m" : "u.n";
  const inner = isKFirst ? length : DEPTH;
  const elements = count(4).map(
    (j) =>
      `select(0.0, ${wide ? `four[${j}]` : `load_${name}(start + ${j}u)`}, ${
        isKFirst ? "deep < u.k" : `deep + ${j}u < u.k`
      })`,
  );
  const [deep, along] = isKFirst ? ["k + outer", "first + inner"] : ["k + inner", "first + outer"];
  return `
    fn bring_${name}(batch: u32, first: u32, k: u32, lane: u32) {
      for (var i = lane; i < ${(DEPTH * length) / 4}u; i += ${workers}u) {
        let outer = i / ${inner / 4}u;
        let inner = i % ${inner / 4}u * 4u;
        let deep = ${deep};
        let along = ${along};
        let start = batch + ${isKFirst ? `deep * ${end} + along` : "along * u.k + deep"};
        ${wide ? `let four = load_${name}(start / 4u);` : ""}
        ${elements.map((value, j) => `tile_${name}[i * 4u + ${j}u] = ${type}(${value});`).join("\n")}
      }
    }`;
}
