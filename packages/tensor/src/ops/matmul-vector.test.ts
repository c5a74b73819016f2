import fc from "fast-check";
import type { DType } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { multiply } from "./matmul-product.ts";
import { productKernel } from "./matmul-settings.ts";

const transposes = { transposeA: false, transposeB: true };

const problem = fc.record({
  batch: fc.constantFrom([], [1], [3], [2, 3]),
  m: fc.integer({ min: 1, max: 2 }),
  n: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(31, 32, 33, 64, 65, 131)),
  k: fc.constantFrom(32, 64, 96, 160),
  /** Whether all of `a` meets one matrix: then a batch counts as rows. */
  one: fc.boolean(),
  dtypes: fc.tuple(fc.constantFrom<DType>("f32", "bf16"), fc.constantFrom<DType>("f32", "f16", "bf16")),
  /** With everything that a product can end with, or nothing: each ending is code of its own. */
  ends: fc.boolean(),
});

test("100 random products of one or two rows are what the plain kernel says", async ({ device, random, skip }) => {
  skip(!productKernel.runsOn(device, { kernel: "vector", rows: 1 }), "this adapter is no CPU with subgroups");
  await fc.assert(
    fc.asyncProperty(problem, async ({ batch, m, n, k, one, dtypes, ends }) => {
      const a = random.normal([...batch, m, k], 1, dtypes[0]);
      const b = random.normal([...(one ? [] : batch), n, k], 1, dtypes[1]);
      const [bias, residual] = [random.normal([n]), random.normal([...batch, m, n])];
      const ending = ends ? ({ bias, activation: "silu", residual } as const) : {};
      const by = (setting: Record<string, string | number>): Tensor =>
        productKernel.with(setting, () => multiply(a, b, transposes, "f32", { ending }));
      const plain = by({ kernel: "plain" });
      const want = await plain.read();
      for (const rows of [1, 2]) {
        const y = by({ kernel: "vector", rows });
        await expect(y).toBeClose(want, { absolute: 1e-4, relative: 1e-5 });
        y.dispose();
      }
      for (const t of [a, b, plain, bias, residual]) t.dispose();
    }),
    { numRuns: 100, seed: 5 },
  );
});

test("one row with a large matrix is made by it without being asked", async ({ device, random, skip }) => {
  skip(!productKernel.runsOn(device, { kernel: "vector", rows: 1 }), "this adapter is no CPU with subgroups");
  const [a, b] = [random.normal([1, 2048]), random.normal([40, 2048], 1, "bf16")];
  const made = await multiply(a, b, transposes, "f32").read();
  const forced = await productKernel
    .with({ kernel: "vector", rows: 1 }, () => multiply(a, b, transposes, "f32"))
    .read();
  expect(made).toEqual(forced);
  const other = await productKernel.with({ kernel: "plain" }, () => multiply(a, b, transposes, "f32")).read();
  expect(made).not.toEqual(other); // it adds in another order
});
