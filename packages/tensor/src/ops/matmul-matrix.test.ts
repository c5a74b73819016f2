import { afterAll } from "vitest";
import { nullDevice, type Pretended } from "../../test/tools/null-device.ts";
import type { DType } from "../dtype.ts";
import { KernelError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { defineKernel } from "../kernel.ts";
import { untaped } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { zeros } from "./create.ts";
import type { Ending } from "./matmul-ending.wgsl.ts";
import { matrixCoverage, matrixShape, matrixSpec } from "./matmul-matrix.wgsl.ts";
import { multiply } from "./matmul-product.ts";
import { productKernel } from "./matmul-settings.ts";

const config = (componentType: string, resultComponentType: string, M: number, N = M, K = M) => ({
  componentType,
  resultComponentType,
  M,
  N,
  K,
});

const size32 = { subgroupMinSize: 32, subgroupMaxSize: 32 };

/** Adapters as they describe themselves: with f32 matrices, with f16 alone, with subgroups of several sizes. */
const adapters = {
  f32: { ...size32, subgroupMatrixConfigs: [config("f16", "f16", 8), config("f32", "f32", 8)] },
  f16: { ...size32, subgroupMatrixConfigs: [config("i8", "i32", 16), config("f16", "f32", 16)] },
  sizes: { subgroupMinSize: 8, subgroupMaxSize: 32, subgroupMatrixConfigs: [config("f32", "f32", 4, 8, 4)] },
} satisfies Record<string, Pretended>;

const devices: Device[] = [];
const opened = async (pretended: Pretended, arithmetic: "f32" | "f16"): Promise<Device> => {
  const device = await nullDevice(pretended, arithmetic);
  devices.push(device);
  return device;
};
afterAll(() => devices.forEach((device) => device.destroy()));

const settings = productKernel.settings().filter((one) => one["kernel"] === "matrices");
const both = [false, true];

test.for([
  ["f32", "f32"],
  ["f16", "f16"],
  ["sizes", "f32"],
] as const)("the kernel compiles for matrices of %s, in %s", async ([adapter, arithmetic]) => {
  const device = await opened(adapters[adapter], arithmetic);
  const pipelines: string[] = [];
  const make = device.pipeline.bind(device);
  device.pipeline = (source) => {
    pipelines.push(source.code);
    return make(source);
  };
  let count = 0;
  const able = settings.filter((setting) => productKernel.runsOn(device, setting));
  // The null backend has 16 KiB of memory for a workgroup.
  expect(able.length).toBe(adapter === "sizes" ? 2 : 1);
  for (const setting of able) {
    for (const transposeA of both) {
      for (const transposeB of both) {
        for (const [m, k, n, dtype] of [
          [64, 64, 64, "f32"],
          [65, 67, 69, "bf16"],
        ] as const) {
          const a = zeros(device, transposeA ? [k, m] : [m, k], dtype);
          const b = zeros(device, transposeB ? [n, k] : [k, n], dtype);
          const ending: Ending = { bias: zeros(device, [n]), activation: "gelu", residual: zeros(device, [m, n]) };
          const of = transposeA ? {} : { ending };
          productKernel.with(setting, () => multiply(a, b, { transposeA, transposeB }, "f32", of));
          count++;
        }
      }
    }
  }
  await device.sync();
  const codes = pipelines.filter((code) => code.includes("subgroupMatrixMultiplyAccumulate"));
  expect(codes.length).toBe(count);
  expect(codes.every((code) => code.includes(`subgroup_matrix_left<${arithmetic}, `))).toBe(true);
  expect(codes.every((code) => code.includes("@subgroup_size(32)") === (adapter === "sizes"))).toBe(true);
});

test("a kernel that is wrong is refused there", async () => {
  for (const [right, wrong] of [
    ["subgroup_matrix_right<f32, 8, 8>", "subgroup_matrix_right<f32, 8, 16>"],
    ["subgroupMatrixLoad<Left, row_major>", "subgroupMatrixLoad<Left, no_major>"],
    ["workgroup_size(128)", "workgroup_size(96)"],
  ] as const) {
    const device = await opened(adapters.f32, "f32");
    const spec = matrixSpec(layout(false, false, true), {});
    const broken = defineKernel({
      ...spec,
      source(...all) {
        const text = spec.source(...all);
        expect(text).toContain(right);
        return text.replace(right, wrong);
      },
    });
    const x = zeros(device, [64, 64]);
    broken({ a: x, b: x }, { y: x }, { ...oneMatrix, m: 64, n: 64, k: 64, across: 2, down: 2, groups: 4 });
    await expect(device.sync()).rejects.toThrow(KernelError);
  }
});

test("a device without the feature, with matrices of integers or f16 sums alone, or too little memory does without", async ({
  device,
}) => {
  for (const setting of settings) expect(productKernel.runsOn(device, setting)).toBe(false);
  const integers = { ...adapters.f32, subgroupMatrixConfigs: [config("i8", "i32", 16), config("f16", "f16", 8)] };
  for (const arithmetic of ["f32", "f16"] as const) {
    expect(matrixShape(await opened(integers, arithmetic))).toBeNull();
  }
  expect(matrixShape(await opened(adapters.f16, "f32"))).toBeNull();
  const f32 = await opened(adapters.f32, "f32");
  expect(matrixShape(f32)).toEqual({ type: "f32", M: 8, N: 8, K: 8, lanes: 32 });
  expect(settings.map((setting) => productKernel.runsOn(f32, setting))).toEqual([true, false]);
  const large = { ...f32.limits, maxComputeWorkgroupStorageSize: 32_768 };
  const more = Object.create(f32, { limits: { value: large } }) as Device;
  expect(settings.map((setting) => productKernel.runsOn(more, setting))).toEqual([true, true]);
});

const layout = (transposeA: boolean, transposeB: boolean, wide: boolean) => ({
  transposeA,
  transposeB,
  wideA: wide,
  wideB: wide,
  wideY: wide,
  ragged: !wide,
  half: false,
});
const oneMatrix = { inner: 1, aOuter: 0, aInner: 0, bOuter: 0, bInner: 0 };

/**
 * The same text with matrices that every lane holds whole, in an array: slow, and it runs anywhere. `u.aOuter` is 0, which a
 * compiler cannot know, and so leaves the loops as they are.
 */
function emulated(text: string): string {
  const types = [...text.matchAll(/alias \w+ = subgroup_matrix_\w+<\w+, (\d+), (\d+)>/g)];
  const [[K, M], [N]] = types.map(([, columns, rows]) => [Number(columns), Number(rows)]) as [number[], number[]];
  const loop = (index: string, end: unknown, body: string): string =>
    `for (var ${index} = 0u; ${index} < ${String(end)}u + u.aOuter; ${index}++) { ${body} }`;
  return text
    .replace("enable chromium_experimental_subgroup_matrix;", "")
    .replace(
      /subgroup_matrix_\w+<(\w+), (\d+), (\d+)>/g,
      (_, type: string, columns: string, rows: string) => `array<${type}, ${Number(columns) * Number(rows)}>`,
    )
    .replace(
      /return subgroupMatrixLoad<(\w+), (\w+)>\(&(\w+), at, (\d+)u\);/g,
      (_, type: string, order: string, tile: string, stride: string) => {
        const [rows, columns] = type === "Left" ? [M, K] : [K, N];
        const place = order === "row_major" ? `i * ${stride}u + j` : `j * ${stride}u + i`;
        const element = `x[i * ${columns}u + j] = ${tile}[at + ${place}];`;
        return `var x: ${type}; ${loop("i", rows, loop("j", columns, element))} return x;`;
      },
    )
    .replace("return subgroupMatrixMultiplyAccumulate(l, r, sums);", () => {
      const product = `x[i * ${N}u + j] += f32(l[i * ${K}u + s]) * f32(r[s * ${N}u + j]);`;
      return `var x = sums; ${loop("i", M, loop("j", N, loop("s", K, product)))} return x;`;
    })
    .replace(/subgroupMatrixStore<row_major>\(&(\w+), at, sums, (\d+)u\);/, (_, tile: string, stride: string) =>
      loop("i", M, loop("j", N, `${tile}[at + i * ${stride}u + j] = sums[i * ${N}u + j];`)),
    );
}

const blocks = 2;

test.for([
  {
    type: "f32",
    sides: [4, 8, 4],
    problems: [
      [false, false, [68, 36, 132], "f32"],
      [true, true, [36, 68, 40], "f16"],
    ],
  },
  {
    type: "f16",
    sides: [8, 4, 8],
    problems: [
      [false, true, [67, 37, 71], "bf16"],
      [true, false, [35, 33, 66], "f32"],
    ],
  },
] as const)(
  "with arrays in the place of matrices of $type, products are right",
  async ({ type, sides: [M, N, K], problems }, { device, random, skip }) => {
    skip(device.subgroupSize === 0, "this adapter has no subgroups of one size");
    skip(type === "f16" && !device.features.has("shader-f16"), "this adapter has no shader-f16");
    const pretended = Object.create(device, {
      features: { value: new Set([...device.features, "chromium-experimental-subgroup-matrix"]) },
      arithmetic: { value: type },
      info: {
        value: {
          subgroupMinSize: device.subgroupSize,
          subgroupMaxSize: device.subgroupSize,
          subgroupMatrixConfigs: [config(type, "f32", M, N, K)],
        },
      },
    }) as Device;
    const of = (shape: readonly number[], dtype: DType): Tensor => random.normal(shape, 1, dtype);
    for (const [transposeA, transposeB, [m, k, n], dtype] of problems) {
      const wide = m % 4 === 0;
      const a = of([2, ...(transposeA ? [k, m] : [m, k])], dtype);
      const b = of([2, ...(transposeB ? [n, k] : [k, n])], dtype);
      const ending = { bias: of([n], "f32"), activation: "relu" } as const;
      const spec = matrixSpec(layout(transposeA, transposeB, wide), ending);
      const kernel = defineKernel({
        ...spec,
        source: (bindings, setting) => emulated(spec.source(bindings, setting, pretended)),
      });
      const [columns, rows] = matrixCoverage(pretended, blocks);
      const [across, down] = [Math.ceil(n / columns), Math.ceil(m / rows)];
      const counts = {
        m,
        n,
        k,
        across,
        down,
        groups: 2 * across * down,
        ...oneMatrix,
        inner: 2,
        aInner: m * k,
        bInner: k * n,
      };
      const { y } = kernel({ a, b, bias: ending.bias }, { y: { shape: [2, m, n], dtype: "f32" } }, counts, {
        knobs: { blocks },
      });
      const want = untaped(() => multiply(a, b, { transposeA, transposeB }, "f32", { ending }));
      const values = await want.read();
      await expect(y).toBeClose({ shape: [2, m, n], values }, type === "f16" ? { absolute: 0.05 } : { absolute: 2e-4 });
    }
  },
);
