import { UsageError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { backward, grad } from "../grad.ts";
import { binary } from "../ops/binary.ts";
import { tensor, zeros } from "../ops/create.ts";
import { sum } from "../ops/reduce.ts";
import { scope } from "../scope.ts";
import { type Shape, size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { clipGradNorm, gradNorm } from "./clip-grad-norm.ts";

/** The norm and the clipped values in double precision. */
function reference(gradients: readonly ArrayLike<number>[], most: number): { norm: number; clipped: number[][] } {
  const norm = Math.sqrt(gradients.reduce((all, g) => Array.from(g).reduce((total, v) => total + v * v, all), 0));
  const factor = Math.min(1, most / (norm + 1e-6));
  return { norm, clipped: gradients.map((g) => Array.from(g, (v) => v * factor)) };
}

const shapes: Shape[] = [[], [1], [2], [7], [64], [65], [3, 5], [0], [1023], [1024], [1025], [40, 77]];

test("clipGradNorm agrees with double precision in 200 random lists of gradients", async ({ random }) => {
  for (let run = 0; run < 200; run++) {
    const count = 1 + random.integer(0, run % 20 === 0 ? 30 : 5);
    const scale = 10 ** random.integer(-3, 3);
    const most = 10 ** random.integer(-1, 2);
    const mine = Array.from({ length: count }, () => shapes[random.integer(0, shapes.length)] as Shape);
    const dtypes = mine.map(() => (["f32", "f32", "bf16", "f16"] as const)[random.integer(0, 4)] ?? "f32");
    const gradients = mine.map((shape, i) => random.normal(shape, scale, dtypes[i]));
    const before = await Promise.all(gradients.map((g) => g.read()));
    const { norm, clipped } = reference(before, most);
    const got = clipGradNorm([null, ...gradients], most);
    expect(got.shape).toEqual([]);
    await expect(got).toBeClose({ shape: [], values: [norm] }, { relative: 2e-6 });
    for (const [i, g] of gradients.entries()) {
      const narrow = { f32: 3e-6, bf16: 2 ** -8, f16: 2 ** -10 }[dtypes[i] as "f32"];
      await expect(g, `${run} ${i} ${mine[i]?.join()} ${dtypes[i]}`).toBeClose(
        { shape: mine[i] as Shape, values: clipped[i] as number[] },
        { relative: narrow, absolute: dtypes[i] === "f16" ? 6e-8 : 0 },
      );
    }
    for (const g of gradients) g.dispose();
  }
});

test("gradients within the norm keep their bits, 16-bit ones too", async ({ device, random }) => {
  const gradients = [random.normal([65]), random.normal([65], 1, "bf16"), random.normal([65], 1, "f16")];
  const before = await Promise.all(gradients.map((g) => g.read()));
  clipGradNorm(gradients, 100);
  expect(await Promise.all(gradients.map((g) => g.read()))).toEqual(before);
  await expect(clipGradNorm([zeros(device, [3])], 1)).toBeClose({ shape: [], values: [0] });
});

test("many more elements than one round of workgroups are all counted and all scaled", async ({ device }) => {
  const n = 1_500_007; // 1024 workgroups, each with more than the least share
  const [a, b] = [tensor(device, new Float32Array(n).fill(2)), tensor(device, new Float32Array(5).fill(4))];
  const norm = Math.sqrt(4 * n + 16 * 5);
  await expect(clipGradNorm([a, b], 1)).toBeClose({ shape: [], values: [norm] }, { relative: 1e-5 });
  const values = await a.read();
  expect([0, 1, n >> 1, n - 2, n - 1].map((i) => Math.abs((values[i] as number) - 2 / norm) < 1e-8)).toEqual(
    Array(5).fill(true),
  );
  expect(values.every((v) => v === values[0])).toBe(true);
  await expect(b).toBeClose({ shape: [5], values: Array<number>(5).fill(4 / norm) }, { relative: 1e-5 });
});

test("it takes one dispatch for up to eight gradients, not one for each", ({ device, random }) => {
  const gradients = Array.from({ length: 28 }, () => random.normal([11]));
  const before = device.dispatchCount;
  clipGradNorm(gradients, 1);
  const runs = device.limits.maxStorageBuffersPerShaderStage > 8 ? 4 : 7; // 8 + 8 + 8 + 4, or fours
  expect(device.dispatchCount - before).toBe(2 * runs + 1);
});

test("gradients larger than one binding are clipped, and few bindings are enough", async () => {
  using small = await openDevice({
    limits: { maxStorageBufferBindingSize: 1024, maxStorageBuffersPerShaderStage: 8 },
    notice: () => {},
  });
  const values = [1000, 300, 5, 1500, 64, 64, 64].map((n, i) => Float32Array.from({ length: n }, (_, j) => i + j / n));
  const gradients = values.map((v) => tensor(small, v));
  const { norm, clipped } = reference(values, 2);
  await expect(clipGradNorm(gradients, 2)).toBeClose({ shape: [], values: [norm] }, { relative: 2e-6 });
  for (const [i, g] of gradients.entries()) await expect(g).toBeClose(clipped[i] as number[], { relative: 3e-6 });
});

test("an infinite gradient makes the others 0 and itself NaN; a NaN makes all NaN", async ({ device }) => {
  const [a, b] = [tensor(device, [1, Number.NEGATIVE_INFINITY]), tensor(device, [3], { dtype: "bf16" })];
  await expect(clipGradNorm([a, b], 1)).toBeClose({ shape: [], values: [Number.POSITIVE_INFINITY] });
  await expect(a).toBeClose([0, Number.NaN]);
  await expect(b).toBeClose([0]);
  const [c, d] = [tensor(device, [1, Number.NaN]), tensor(device, [3, 4, 5], { dtype: "f16" })];
  await expect(clipGradNorm([c, d], 1)).toBeClose({ shape: [], values: [Number.NaN] });
  await expect(c).toBeClose([Number.NaN, Number.NaN]);
  await expect(d).toBeClose([Number.NaN, Number.NaN, Number.NaN]);
});

test("gradients of a sum are clipped once each, though they began as one cotangent", async ({ device }) => {
  const [a, b] = [requireGrad(tensor(device, [1, 2])), requireGrad(tensor(device, [3, 4]))];
  const weights = tensor(device, [3, 4]);
  const clipped = [3 / Math.sqrt(50), 4 / Math.sqrt(50)];
  const y = sum(binary.mul(binary.add(a, b), weights));
  const gradients = grad(y, [a, b], { retain: true });
  clipGradNorm(gradients, 1);
  for (const g of gradients) await expect(g).toBeClose(clipped, { relative: 1e-5 });
  backward(y);
  clipGradNorm([a.grad, b.grad], 1);
  for (const { grad } of [a, b]) await expect(grad as Tensor).toBeClose(clipped, { relative: 1e-5 });
  // Nor is a cotangent of the caller's changed.
  const cotangent = tensor(device, [30, 40]);
  clipGradNorm(grad(binary.add(a, b), [a, b], { cotangent }), 1);
  await expect(cotangent).toBeClose([30, 40]);
});

test("gradients that are rows of one memory are clipped side by side", async ({ random }) => {
  for (const dtype of ["f32", "bf16"] as const) {
    const whole = random.normal([12, 128], 1, dtype);
    const before = await whole.read();
    const { norm, clipped } = reference([before], 1);
    const parts = [0, 1, 2].map((i) => whole.rows(4 * i, 4 * i + 4));
    await expect(clipGradNorm(parts, 1)).toBeClose({ shape: [], values: [norm] }, { relative: 2e-6 });
    const want = { shape: [12, 128], values: clipped[0] as number[] };
    await expect(whole).toBeClose(want, { relative: dtype === "f32" ? 3e-6 : 2 ** -8 });
    expect(() => clipGradNorm([whole, whole.rows(2, 6)], 1)).toThrow(/share memory/);
  }
});

test("it leaves no memory behind", async () => {
  using device = await openDevice({ notice: () => {} }); // its own: others' garbage would change what is live
  const gradients = shapes.map((shape) => zeros(device, shape));
  const { live } = device.memory();
  for (let i = 0; i < 5; i++) scope(() => void clipGradNorm(gradients, 0.1));
  expect(device.memory().live).toBe(live);
  const norm = clipGradNorm(gradients, 0.1);
  expect(device.memory().live).toBe(live + 4);
  norm.dispose();
  expect(shapes.map(size).reduce((a, b) => a + b)).toBeGreaterThan(4000);
});

test("mistakes are refused by name", ({ device }) => {
  const g = zeros(device, [2]);
  expect(() => clipGradNorm([], 1)).toThrow(/there is no gradient/);
  expect(() => clipGradNorm([null, null], 1)).toThrow(UsageError);
  expect(() => clipGradNorm([g], 0)).toThrow(/maxNorm is 0/);
  expect(() => clipGradNorm([g], Number.NaN)).toThrow(/maxNorm is NaN/);
  expect(() => clipGradNorm([g, g.alias()], 1)).toThrow(/share memory/);
});

test("gradNorm gives the same norm and leaves the gradients as they are", async ({ random }) => {
  const gradients = [random.normal([40, 7]), random.normal([3], 100, "bf16")];
  const before = await Promise.all(gradients.map((g) => g.read()));
  const norm = await gradNorm([...gradients, null]).item();
  expect(await Promise.all(gradients.map((g) => g.read()))).toEqual(before);
  expect(await clipGradNorm(gradients, 1).item()).toBe(norm);
});
