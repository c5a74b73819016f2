import fc from "fast-check";
import { anyDtype, upload } from "../../test/tools/arrays.ts";
import { broadcastable, summedTo, zip } from "../../test/tools/broadcasting.ts";
import { noise, toleranceOf } from "../../test/tools/lines.ts";
import { isFloat } from "../dtype.ts";
import { grad } from "../grad.ts";
import { broadcast } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { full } from "./create.ts";
import { expand, sumTo } from "./expand.ts";

const pairs = broadcastable(2).map(
  ([a, b]) => [a as number[], broadcast(a as number[], b as number[], "test")] as const,
);

test("expand and sumTo agree with indexing, and are each other's gradient, in 200 random shapes of every dtype", async ({
  device,
}) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(pairs, anyDtype, seeds, async ([narrow, wide], dtype, seed) => {
      const x = noise(device, seed, narrow, dtype);
      const big = noise(device, seed + 1, wide, dtype);
      const ones = { shape: wide, values: Array<number>(big.values.length).fill(1) };
      const expanded = zip([x, ones], (value) => value);
      const summed = summedTo(big, narrow);
      const y = expand(upload(device, x, dtype), wide);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(expanded);
      const s = sumTo(upload(device, big, dtype), narrow);
      expect(s.dtype).toBe(dtype === "bool" ? "i32" : dtype);
      const tolerance = { ...toleranceOf(dtype), absolute: isFloat(dtype) ? 3e-6 : 0 };
      await expect(s).toBeClose(summed, tolerance);
      if (dtype !== "f32" && dtype !== "bf16") return;
      const small = requireGrad(upload(device, x, dtype));
      const [dx] = grad(expand(small, wide), [small], { cotangent: upload(device, big, dtype) }) as [Tensor];
      await expect(dx).toBeClose(summed, tolerance);
      const large = requireGrad(upload(device, big, dtype));
      const [d] = grad(sumTo(large, narrow), [large], { cotangent: upload(device, x, dtype) }) as [Tensor];
      await expect(d).toBeClose(expanded);
    }),
    { numRuns: 200, seed: 9 },
  );
});

test("expanding to the same shape gives the same tensor, and large shapes are filled to the end", async ({
  device,
}) => {
  const x = full(device, [3, 1], 7);
  expect(expand(x, [3, 1])).toBe(x);
  expect(sumTo(x, [3, 1])).toBe(x);
  await expect(expand(x, [3, 70_001])).toBeClose(new Float32Array(3 * 70_001).fill(7));
  await expect(sumTo(full(device, [70_001, 3], 1), [3])).toBeClose({ shape: [3], values: [70_001, 70_001, 70_001] });
});

test("expand and sumTo have their slopes for gradients", async ({ random }) => {
  await checkGradients((x) => expand(x as Tensor, [4, 3, 5]), [random.normal([3, 1])]);
  await checkGradients((x) => sumTo(x as Tensor, [3, 1]), [random.normal([4, 3, 5])]);
});

test("shapes that do not fit are refused with both of them", ({ device }) => {
  const x = full(device, [2, 3], 1);
  expect(() => expand(x, [3])).toThrow("expand: [2, 3] cannot become [3]");
  expect(() => expand(x, [4, 3])).toThrow("expand: [2, 3] cannot become [4, 3]");
  expect(() => expand(full(device, [0], 1), [3])).toThrow("expand: [0] cannot become [3]");
  expect(() => sumTo(x, [2])).toThrow("sumTo: [2] does not broadcast to [2, 3]");
  expect(() => sumTo(x, [1, 2, 3])).toThrow("sumTo: [1, 2, 3] does not broadcast to [2, 3]");
});
