import fc from "fast-check";
import { anyDtype, upload } from "../../test/tools/arrays.ts";
import { broadcastable, summedTo, zip } from "../../test/tools/broadcasting.ts";
import { noise, stored, toleranceOf } from "../../test/tools/lines.ts";
import { promote } from "../dtype.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { full, tensor } from "./create.ts";
import { where } from "./where.ts";

test("where chooses, broadcasts and promotes, in 200 random shapes and dtypes, and so does its gradient", async ({
  device,
}) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  const kinds = fc.tuple(anyDtype, anyDtype, anyDtype);
  await fc.assert(
    fc.asyncProperty(broadcastable(3), kinds, seeds, async ([p, q, r], [dc, da, db], seed) => {
      const c = noise(device, seed, p as number[], dc);
      const truth = { shape: c.shape, values: c.values.map((v, i) => (i % 2 ? 0 : v)) };
      const a = noise(device, seed + 1, q as number[], da);
      const b = noise(device, seed + 2, r as number[], db);
      const dtype = promote(da, db);
      const [x, y] = [upload(device, a, da), upload(device, b, db)];
      const out = where(upload(device, truth, dc), x, y);
      expect(out.dtype).toBe(dtype);
      await expect(out).toBeClose(zip([truth, a, b], (t, v, w) => stored(dtype, t ? v : w)));
      if (da !== "f32" || db !== "f32") return;
      const dy = noise(device, seed + 3, out.shape, "f32");
      const chosen = where(upload(device, truth, dc), requireGrad(x), requireGrad(y));
      const [dx, dw] = grad(chosen, [x, y], { cotangent: upload(device, dy) }) as [Tensor, Tensor];
      const left = zip([truth, a, b, dy], (t, _, __, d) => (t ? d : 0));
      const right = zip([truth, a, b, dy], (t, _, __, d) => (t ? 0 : d));
      const tolerance = { ...toleranceOf("f32"), absolute: 3e-6 };
      await expect(dx).toBeClose(summedTo(left, a.shape), tolerance);
      await expect(dw).toBeClose(summedTo(right, b.shape), tolerance);
    }),
    { numRuns: 200, seed: 51 },
  );
});

test("a NaN that is not chosen leaves no trace in the result or the gradient", async ({ device }) => {
  const c = tensor(device, [true, false, true]);
  const a = requireGrad(tensor(device, [1, Number.NaN, Infinity]));
  const b = requireGrad(tensor(device, [Number.NaN, 2, Number.NaN]));
  const y = where(c, a, b);
  await expect(y).toBeClose([1, 2, Infinity]);
  const [da, db] = grad(y, [a, b], { cotangent: tensor(device, [5, Number.NaN, 7]) }) as [Tensor, Tensor];
  await expect(da).toBeClose([5, 0, 7]);
  await expect(db).toBeClose([0, Number.NaN, 0]);
});

test("numbers take the dtype of the tensor beside them, and anything but 0 is true", async ({ device }) => {
  const c = tensor(device, [0, -3, Number.NaN]);
  const half = where(c, full(device, [3], 1.5, "bf16"), 0.1);
  expect(half.dtype).toBe("bf16");
  await expect(half).toBeClose([stored("bf16", 0.1), 1.5, 1.5]);
  const whole = where(c, -1, tensor(device, Int32Array.of(7, 8, 9)));
  expect(whole.dtype).toBe("i32");
  await expect(whole).toBeClose([7, -1, -1]);
  expect(where(c, tensor(device, Int32Array.of(7, 8, 9)), 0.5).dtype).toBe("f32");
  const numbers = where(c, 1, -Infinity);
  expect(numbers.dtype).toBe("f32");
  await expect(numbers).toBeClose([-Infinity, 1, 1]);
});

test("where has its slopes for gradients, also for the operand beside a number", async ({ device, random }) => {
  const c = tensor(device, [[true], [false], [true]]);
  await checkGradients((a, b) => where(c, a as Tensor, b as Tensor), [random.normal([4]), random.normal([2, 3, 1])]);
  await checkGradients((a) => where(c, a as Tensor, 3), [random.normal([4])]);
  await checkGradients((b) => where(c, 3, b as Tensor), [random.normal([3, 1])]);
});

test("shapes that do not broadcast are refused by name", ({ device }) => {
  const [c, a, b] = [full(device, [2], 1, "bool"), full(device, [3], 1), full(device, [3], 1)];
  expect(() => where(c, a, b)).toThrow("where: [2] and [3] do not broadcast");
});
