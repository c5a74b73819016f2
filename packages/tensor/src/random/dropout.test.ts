import fc from "fast-check";
import { ShapeError, UsageError } from "../errors.ts";
import { grad } from "../grad.ts";
import { sum } from "../ops/reduce.ts";
import { tensor } from "../ops/create.ts";
import { size } from "../shape.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { requireGrad } from "../tape.ts";
import { dropout } from "./dropout.ts";
import { key } from "./key.ts";
import { philox } from "./philox.ts";

/** What dropout should give: element i of a sample is decided by word i % 4 of block i / 4. */
function reference(values: ArrayLike<number>, width: number, p: number, from: ReturnType<typeof key>, ids: number[]) {
  const { key0, key1, step } = from.uniforms;
  return Float32Array.from(values, (v, at) => {
    const i = at % width;
    const word = philox([i >>> 2, ids[Math.floor(at / width)] as number, step, 0], [key0, key1])[i % 4] as number;
    return word < p * 2 ** 32 ? 0 : v * Math.fround(1 / (1 - p));
  });
}

test("dropout equals its definition on 200 random shapes, with samples and without", async ({ device, random }) => {
  const cases = fc.record({
    shape: fc.array(fc.integer({ min: 0, max: 13 }), { maxLength: 4 }),
    p: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    seed: fc.nat(),
    step: fc.nat(),
    dtype: fc.constantFrom("f32" as const, "bf16" as const, "f16" as const),
    bySample: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ shape, p, seed, step, dtype, bySample }) => {
      const from = key(seed).for("dropout", step);
      const x = random.normal(shape, 1, dtype);
      const values = await x.read();
      const rows = bySample && shape.length > 0 ? (shape[0] as number) : 1;
      const ids = Array.from({ length: rows }, () => (rows === 1 && !bySample ? 0 : random.integer(0, 1000)));
      const samples = bySample && shape.length > 0 ? tensor(device, Uint32Array.from(ids)) : undefined;
      const want = reference(values, size(shape) / rows, p, from, samples ? ids : [0]);
      const y = dropout(x, p, from, samples);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose({ shape, values: want }, { relative: dtype === "f32" ? 1e-6 : 2 ** -7 });
    }),
    { numRuns: 200, seed: 5 },
  );
});

test("dropout has its slope for a gradient, with samples and without", async ({ device, random }) => {
  const samples = tensor(device, Int32Array.of(4, 9, 4));
  await checkGradients((x) => dropout(x, 0.4, 3), [random.normal([3, 37])]);
  await checkGradients((x) => dropout(x, 0.4, 3, samples), [random.normal([3, 37])]);
});

test("the gradient is dropped and scaled where the value was", async ({ device }) => {
  const x = requireGrad(tensor(device, new Float32Array(1001).fill(1)));
  const y = dropout(x, 0.25, key(1).for("dropout", 2));
  const [dx] = grad(sum(y), [x]);
  expect(await (dx as typeof y).read()).toEqual(await y.read());
});

test("dropout keeps the mean and drops its share", async ({ device }) => {
  const n = 100_003;
  const x = tensor(device, new Float32Array(n).fill(1));
  for (const p of [0.05, 0.5, 0.9]) {
    const values = Float32Array.from(await dropout(x, p, 17).read());
    const dropped = values.filter((v) => v === 0).length / n;
    const deviation = Math.sqrt((p * (1 - p)) / n);
    expect(Math.abs(dropped - p)).toBeLessThan(4 * deviation);
    expect(Math.abs(values.reduce((a, b) => a + b, 0) / n - 1)).toBeLessThan((4 * deviation) / (1 - p));
  }
});

test("p = 0 gives the tensor itself and p = 1 zeros, with a gradient of zeros", async ({ device }) => {
  const x = requireGrad(tensor(device, [1, Number.NaN, Number.POSITIVE_INFINITY, 4, 5]));
  expect(dropout(x, 0, 1)).toBe(x);
  expect(dropout(x, 0, 1, tensor(device, Int32Array.of(1, 2, 3, 4, 5)))).toBe(x);
  const y = dropout(x, 1, 1);
  await expect(y).toBeClose([0, 0, 0, 0, 0]);
  const [dx] = grad(sum(y), [x]);
  await expect(dx as typeof y).toBeClose([0, 0, 0, 0, 0]);
});

test("the same key drops the same elements, another step or purpose drops others", async ({ random }) => {
  const x = random.uniform([1000], 1, 2);
  const mask = async (k: ReturnType<typeof key>): Promise<string> =>
    (await dropout(x, 0.5, k).read()).map((v) => Number(v !== 0)).join("");
  const [a, b, c, d] = await Promise.all([
    mask(key(1).for("a", 7)),
    mask(key(1).for("a", 7)),
    mask(key(1).for("a", 8)),
    mask(key(1).for("b", 7)),
  ]);
  expect(a).toBe(b);
  expect(new Set([a, c, d]).size).toBe(3);
});

test("a sample loses the same elements in any batch, at any place, padded or not", async ({ device, random }) => {
  const from = key(4).for("dropout", 1);
  const batch = random.normal([3, 5, 7]);
  const values = Float32Array.from(await batch.read());
  const one = (i: number): Float32Array => values.slice(i * 35, i * 35 + 35);
  const whole = await dropout(batch, 0.3, from, tensor(device, Int32Array.of(8, 2, 5))).read();
  const turned = tensor(device, Float32Array.from([...one(2), ...one(0)]), { shape: [2, 5, 7] });
  const other = await dropout(turned, 0.3, from, tensor(device, Int32Array.of(5, 8))).read();
  expect(other.slice(0, 35)).toEqual(whole.slice(70, 105));
  expect(other.slice(35)).toEqual(whole.slice(0, 35));
  // Alone, by its own key, and cut to three rows.
  const alone = await dropout(tensor(device, one(1).slice(0, 21), { shape: [3, 7] }), 0.3, from.at(2)).read();
  expect(alone).toEqual(whole.slice(35, 56));
});

test("what dropout cannot do is refused by name", ({ device, random }) => {
  const x = random.normal([2, 3]);
  expect(() => dropout(x, -0.1, 1)).toThrow(/dropout: -0.1 is not a probability/);
  expect(() => dropout(x, 1.1, 1)).toThrow(UsageError);
  expect(() => dropout(random.integers([2], 0, 9), 0.5, 1)).toThrow(/dropout: x is \[2\] i32, not a float/);
  expect(() => dropout(x, 0.5, 1, tensor(device, Int32Array.of(1, 2, 3)))).toThrow(/samples is \[3\] i32.*\[2, 3\]/);
  expect(() => dropout(x, 0.5, 1, tensor(device, [1, 2]))).toThrow(ShapeError);
});
