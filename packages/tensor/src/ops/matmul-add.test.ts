import fc from "fast-check";
import type { DType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { Random } from "../cases.ts";
import { requireGrad } from "../tape.ts";
import { expect, test } from "../testing.ts";
import { unary } from "./unary.ts";
import { binary } from "./binary.ts";
import { cast } from "./cast.ts";
import { copy } from "./assign.ts";
import { tensor } from "./create.ts";
import { matmul } from "./matmul.ts";
import { addmm_, baddbmm_ } from "./matmul-add.ts";
import { productKernel } from "./matmul-settings.ts";

const lengths = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(31, 32, 33, 64, 68));

test("200 random products are added to what is there, by every kernel", async ({ device, random }) => {
  const kernels = ["plain", "packed", "split"].filter((kernel) => productKernel.runsOn(device, { kernel }));
  const problem = fc.record({
    batch: fc.constantFrom(null, 1, 3),
    m: lengths,
    n: lengths,
    k: lengths,
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    dtype: fc.constantFrom<DType>("f32", "f32", "bf16"),
    kernel: fc.constantFrom(...kernels),
  });
  await fc.assert(
    fc.asyncProperty(problem, async ({ batch, m, n, k, transposeA, transposeB, dtype, kernel }) => {
      const lead = batch === null ? [] : [batch];
      const y = random.normal([...lead, m, n], 1, dtype);
      const a = random.normal([...lead, ...(transposeA ? [k, m] : [m, k])]);
      const b = random.normal([...lead, ...(transposeB ? [n, k] : [k, n])], 1, dtype);
      const options = { transposeA, transposeB };
      const want = cast(binary.add(y, matmul(a, b, options)), dtype);
      const add = batch === null ? addmm_ : baddbmm_;
      const got = productKernel.with({ kernel }, () => add(y, a, b, options));
      expect(got).toBe(y);
      await expect(y).toBeClose(want, { absolute: 1e-4, relative: dtype === "f32" ? 1e-5 : 2 ** -7 });
      for (const t of [y, a, b, want]) t.dispose();
    }),
    { numRuns: 200, seed: 5 },
  );
});

test("a product that is large enough adds as it stores, in one dispatch after packing", async ({ device, random }) => {
  const [y, a, b] = [random.normal([193, 193]), random.normal([193, 64]), random.normal([64, 193])];
  const want = binary.add(y, matmul(a, b));
  const before = device.dispatchCount;
  addmm_(y, a, b);
  expect(device.dispatchCount - before).toBeLessThanOrEqual(3);
  await expect(y).toBeClose(want, { absolute: 1e-4 });
});

test("a tensor may be added to its own square", async ({ random }) => {
  const y = random.normal([6, 6]);
  const want = binary.add(y, matmul(copy(y), copy(y)));
  await expect(addmm_(y, y, y)).toBeClose(want, { absolute: 1e-5 });
});

test("operands of several bindings are taken in parts, and into rows of a larger result", async ({ random }) => {
  const small = await openDevice({ limits: { maxStorageBufferBindingSize: 16_384 } });
  const on = new Random(small);
  const [a, b, whole] = [on.normal([160, 64]), on.normal([64, 256]), on.normal([320, 256])];
  const [wa, wb, ww] = await Promise.all([a, b, whole].map((t) => t.read()));
  const given = (values: unknown, shape: number[]) => tensor(random.device, values as Float32Array, { shape });
  const want = binary.add(
    matmul(given(wa, [160, 64]), given(wb, [64, 256])),
    given((ww as Float32Array).subarray(160 * 256), [160, 256]),
  );
  addmm_(whole.rows(160, 320), a, b);
  const got = await whole.read();
  await expect(given(got.slice(160 * 256), [160, 256])).toBeClose(want, { absolute: 1e-4 });
  expect(got.slice(0, 160 * 256)).toEqual((ww as Float32Array).slice(0, 160 * 256));
  small.destroy();
});

test("what does not fit is refused with the shapes", ({ random }) => {
  const [y, a, b] = [random.normal([2, 4]), random.normal([2, 3]), random.normal([3, 4])];
  expect(() => addmm_(y, b, a)).toThrow(new ShapeError("addmm_: y [2, 4], a [3, 4] and b [2, 3]: they do not fit"));
  expect(() => addmm_(y, a, b, { transposeB: true })).toThrow("they do not fit, with b transposed");
  expect(() => baddbmm_(y, a, b)).toThrow("each has 3 axes");
  expect(() => addmm_(cast(y, "i32"), a, b)).toThrow("they hold i32, f32 and f32, not floats");
  const leaf = requireGrad(random.normal([2, 3]));
  expect(() => addmm_(y, leaf, b)).toThrow("addmm_: no gradient flows through it; call it inside untaped()");
  const made = unary.exp(requireGrad(random.normal([2, 4])));
  expect(() => addmm_(made, a, b)).toThrow("addmm_: y [2, 4] was made by exp on the tape, which needs its value");
});
