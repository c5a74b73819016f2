import { nullDevice } from "../../test/tools/null-device.ts";
import { Random } from "../cases.ts";
import { DeviceError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, relativeError, test } from "../testing.ts";
import { tensor, zeros } from "./create.ts";
import { matmul } from "./matmul.ts";
import { multiply } from "./matmul-product.ts";
import { productKernel } from "./matmul-settings.ts";

const tiles = productKernel.settings().filter(({ kernel }) => kernel === "tile");

test("without shader-f16 f16 arithmetic is refused", async () => {
  const asked = openDevice({ arithmetic: "f16", without: ["shader-f16"], notice: () => {} });
  await expect(asked).rejects.toThrow(DeviceError);
  await expect(asked).rejects.toThrow(/arithmetic is f16, but .+ has no shader-f16/);
});

test("on request factors are rounded to f16, sums are f32, and gradients are made alike", async ({ device, skip }) => {
  skip(!device.features.has("shader-f16"), "this adapter has no shader-f16");
  using half = await openDevice({ arithmetic: "f16", tune: "off", notice: () => {} });
  const made = [device, half].map((on) => {
    const random = new Random(on);
    const [a, b] = [requireGrad(random.normal([5, 36])), requireGrad(random.normal([36, 12]))];
    return productKernel.with({ kernel: "tile", arrangement: "block", rows: 4 }, () => {
      const y = matmul(a, b);
      return [y, ...grad(y, [a, b], { cotangent: random.normal([5, 12]) })];
    });
  });
  for (const [i, exact] of (made[0] as Tensor[]).entries()) {
    const values = (await made[1]?.[i]?.read()) as Float32Array;
    const error = await relativeError(tensor(device, values, { shape: exact.shape }), exact);
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(2e-3);
  }
  // From 2,048 on an f16 sum would not grow by ones.
  const ones = tensor(half, new Float32Array(8192).fill(1), { shape: [1, 8192] });
  const sum = productKernel.with({ kernel: "tile", arrangement: "dots", rows: 1 }, () =>
    matmul(ones, ones, { transposeB: true }),
  );
  expect(await sum.item()).toBe(8192);
});

test("every arrangement of tiles computes in f16 where it is asked to", async ({ device, skip }) => {
  skip(!device.features.has("shader-f16"), "this adapter has no shader-f16");
  using half = await openDevice({ arithmetic: "f16", tune: "off", notice: () => {} });
  // 1 + 2⁻¹² is 1 in f16.
  const a = tensor(half, new Float32Array(3 * 8).fill(1 + 2 ** -12), { shape: [3, 8] });
  const b = tensor(half, new Float32Array(8 * 8).fill(1), { shape: [8, 8] });
  for (const setting of tiles.filter((one) => productKernel.runsOn(half, one) && one["rows"] === 4)) {
    const y = productKernel.with(setting, () => multiply(a, b, { transposeA: false, transposeB: true }, "f32"));
    expect(new Set(await y.read()), JSON.stringify(setting)).toEqual(new Set([8]));
  }
});

test("tiles in f16 compile for every layout", async () => {
  const device = await nullDevice({ subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [] }, "f16");
  for (const setting of tiles) {
    expect(productKernel.runsOn(device, setting)).toBe(true);
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        for (const side of [36, 37]) {
          const x = zeros(device, [side, side]);
          productKernel.with(setting, () => multiply(x, x, { transposeA, transposeB }, "f32"));
        }
      }
    }
  }
  await device.sync();
  device.destroy();
});
