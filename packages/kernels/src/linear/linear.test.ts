import { ShapeError, tensor, zeros } from "@rot/tensor";
import { type Activation, productEndings, productKernel } from "@rot/tensor/kernel";
import { checkGradients, checkOp, expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { agree, dtypes, runs, shapeOf, toleranceOf } from "../../test/tools/agree.ts";
import { cases } from "./linear.cases.ts";
import { linear, linearOp } from "./linear.ts";

checkOp(cases);

const lengths = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 30, max: 66 }));
const settings = productEndings.settings();

/** Few enough to be compiled soon; the cases above have the others. */
const endings: readonly { bias: boolean; activation: Activation | null; residual: boolean }[] = [
  { bias: false, activation: null, residual: false },
  { bias: true, activation: "gelu", residual: false },
  { bias: true, activation: null, residual: true },
  { bias: false, activation: "silu", residual: true },
];

test("at 200 random shapes, dtypes and endings it agrees with its reference, forward and backward", async ({
  device,
  random,
}) => {
  const kernels = [{ kernel: "plain" }, { kernel: "packed" }].filter((setting) =>
    productKernel.runsOn(device, setting),
  );
  const point = fc.record({
    shape: shapeOf(lengths),
    N: lengths,
    of: dtypes,
    params: fc.constantFrom(...endings),
    needs: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    kernel: fc.constantFrom(...kernels),
  });
  await fc.assert(
    fc.asyncProperty(point, async ({ shape, N, of, params, needs, kernel }) => {
      const K = shape.at(-1) as number;
      const inputs = [
        random.normal(shape, 1, of[0]),
        random.normal([N, K], Math.max(K, 1) ** -0.5, of[1]),
        ...(params.bias ? [random.normal([N])] : []),
        ...(params.residual ? [random.normal([...shape.slice(0, -1), N])] : []),
      ];
      const { absolute = 0, relative = 0 } = toleranceOf(...of);
      await productKernel.with(kernel, () =>
        agree(linearOp, random, {
          inputs,
          params,
          needs: needs.slice(0, inputs.length),
          tolerance: { absolute: 6 * absolute, relative: 2 * relative },
        }),
      );
      for (const input of inputs) input.dispose();
    }),
    runs,
  );
});

test("its gradients are its slopes", async ({ random }) => {
  for (const activation of [null, "silu", "gelu", "geluTanh"] as const) {
    const [x, weight, bias, residual] = [[2, 3, 5], [4, 5], [4], [2, 3, 4]].map((shape) => random.normal(shape));
    await checkGradients(
      (...[x, w, b, residual]) =>
        linear(x as never, w as never, b as never, { activation, residual: residual as never }),
      [x, weight, bias, residual] as never,
    );
  }
});

test("without a gradient it is one dispatch, whatever it ends with", ({ device, random }) => {
  for (const rows of [1, 5, 40]) {
    const [x, w, b, r] = [[rows, 64], [64, 64], [64], [rows, 64]].map((shape) => random.normal(shape));
    const before = device.dispatchCount;
    linear(x as never, w as never, b as never, { activation: "gelu", residual: r as never });
    expect(device.dispatchCount - before).toBe(1);
  }
});

test("NaN reaches its row, and an infinite weight its column", async ({ device }) => {
  const x = tensor(device, [
    [1, 2],
    [Number.NaN, 0],
  ]);
  const w = tensor(device, [
    [1, 1],
    [Number.POSITIVE_INFINITY, 1],
    [Number.NEGATIVE_INFINITY, 0],
  ]);
  for (const setting of settings) {
    if (!productKernel.runsOn(device, setting)) continue;
    const y = productKernel.with(setting, () => linear(x, w, null, { activation: "relu" }));
    await expect(y).toBeClose([3, Number.POSITIVE_INFINITY, 0, Number.NaN, Number.NaN, Number.NaN]);
  }
});

test("what does not fit is refused with its shapes", ({ device, random }) => {
  const [x, w] = [random.normal([2, 8]), random.normal([3, 8])];
  expect(() => linear(x, random.normal([3, 7]))).toThrow(
    new ShapeError("linear: x [2, 8] and weight [3, 7] do not fit [..., K] and [N, K]"),
  );
  expect(() => linear(x, random.normal([8]))).toThrow("linear: x [2, 8] and weight [8] do not fit");
  expect(() => linear(random.normal([]), w)).toThrow("linear: x [] and weight [3, 8] do not fit");
  expect(() => linear(x, w, random.normal([2]))).toThrow("linear: bias is [2], weight [3, 8]");
  expect(() => linear(x, w, null, { residual: random.normal([3]) })).toThrow(
    "linear: residual is [3], the result [2, 3]",
  );
  expect(() => linear(x, zeros(device, [3, 8], "i32"))).toThrow("linear: weight is i32");
});
