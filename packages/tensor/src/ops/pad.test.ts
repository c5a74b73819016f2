import fc from "fast-check";
import { anyDtype, at, build, counting, shapes, upload } from "../../test/tools/arrays.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { arange } from "./create.ts";
import { pad, type Widths } from "./pad.ts";

const widths = fc.tuple(fc.nat(3), fc.nat(3));

test("200 random frames agree with their definition in every dtype, and their gradients cut them off", async ({
  device,
}) => {
  const runs = shapes(3).chain((shape) =>
    fc.tuple(
      fc.constant(shape),
      fc.array(widths, { minLength: shape.length, maxLength: shape.length }),
      fc.constantFrom(0, 1, 1, 7),
      anyDtype,
    ),
  );
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, all, fill, dtype]) => {
      const value = dtype === "bool" ? Math.min(fill, 1) : fill;
      const plain = counting(shape, dtype);
      const x = upload(device, plain, dtype);
      const wide = shape.map((n, d) => n + (all[d] as Widths)[0] + (all[d] as Widths)[1]);
      const want = build(wide, (index) => {
        const own = index.map((i, d) => i - (all[d] as Widths)[0]);
        return own.every((i, d) => i >= 0 && i < (shape[d] as number)) ? at(plain, own) : value;
      });
      const y = pad(x, all, value);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(want);
      if (dtype === "i32" || dtype === "u32" || dtype === "bool") return;
      requireGrad(x);
      const [dx] = grad(pad(x, all, value), [x], { cotangent: y });
      await expect(dx as Tensor).toBeClose(plain);
    }),
    { numRuns: 200, seed: 31 },
  );
});

test("it has its slope for a gradient", async ({ random }) => {
  await checkGradients(
    (x) =>
      pad(
        x,
        [
          [1, 2],
          [0, 3],
        ],
        4,
      ),
    [random.normal([3, 5])],
  );
});

test("a frame of infinities and a core of NaN stay apart", async ({ device }) => {
  const x = upload(device, { shape: [1], values: [NaN] });
  for (const dtype of ["f32", "bf16", "f16"] as const) {
    const y = pad(upload(device, { shape: [1], values: [NaN] }, dtype), [[1, 1]], -Infinity);
    await expect(y).toBeClose({ shape: [3], values: [-Infinity, NaN, -Infinity] });
  }
  await expect(pad(x, [[0, 1]], NaN)).toBeClose({ shape: [2], values: [NaN, NaN] });
});

test("a scalar has no axis to pad, and an integer keeps every bit", async ({ device }) => {
  await expect(pad(upload(device, { shape: [], values: [3] }), [])).toBeClose({ shape: [], values: [3] });
  const y = pad(upload(device, { shape: [1], values: [2 ** 31 - 1] }, "i32"), [[1, 0]], -(2 ** 31) + 1);
  await expect(y).toBeClose({ shape: [2], values: [-(2 ** 31) + 1, 2 ** 31 - 1] });
});

test("more elements than 65,535 workgroups hold are all placed", async ({ device }) => {
  const n = 65_536 * 64 + 131;
  const values = await pad(arange(device, 0, n, 1, "i32"), [[1, 1]], -5).read();
  expect(values.every((v, i) => v === (i === 0 || i === n + 1 ? -5 : i - 1))).toBe(true);
});

test("a mistake is told with the op and the shape", ({ device }) => {
  const x = upload(device, counting([2, 3]));
  expect(() => pad(x, [[1, 1]])).toThrow("pad: 1 pairs of widths for [2, 3]; it takes one for each axis");
  expect(() =>
    pad(x, [
      [0, 0],
      [0, -1],
    ]),
  ).toThrow("pad: axis 1 of [2, 3] cannot be widened by [0, -1]");
  expect(() =>
    pad(x, [
      [0.5, 0],
      [0, 1],
    ]),
  ).toThrow("pad: axis 0 of [2, 3] cannot be widened by [0.5, 0]");
});
