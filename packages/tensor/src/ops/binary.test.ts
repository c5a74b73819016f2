import fc from "fast-check";
import { anyDtype, type Plain, upload } from "../../test/tools/arrays.ts";
import { broadcastable, summedTo, zip } from "../../test/tools/broadcasting.ts";
import { noise, stored, toleranceOf } from "../../test/tools/lines.ts";
import { type DType, dtypes, isFloat } from "../dtype.ts";
import { ShapeError, UsageError } from "../errors.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { binary, type BinaryName } from "./binary.ts";
import { full, tensor } from "./create.ts";

const names = ["add", "sub", "mul", "div", "maximum", "minimum", "pow"] as const satisfies readonly BinaryName[];

/** aᵇ as C has it; JavaScript's differs where |a| is 1. */
const power = (a: number, b: number): number => (a === 1 ? 1 : a === -1 && Math.abs(b) === Infinity ? 1 : a ** b);

/** The same in double precision, before the result is stored in its dtype. */
const plain: Record<BinaryName, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  maximum: Math.max,
  minimum: Math.min,
  pow: power,
};

/** Slopes by `a` and `b`. */
const slopes: Record<BinaryName, (a: number, b: number) => [number, number]> = {
  add: () => [1, 1],
  sub: () => [1, -1],
  mul: (a, b) => [b, a],
  div: (a, b) => [1 / b, -a / b / b],
  maximum: (a, b) => (a === b ? [0.5, 0.5] : [Number(a > b), Number(b > a)]),
  minimum: (a, b) => (a === b ? [0.5, 0.5] : [Number(a < b), Number(b < a)]),
  pow: (a, b) => [b === 0 ? 0 : b * power(a, b - 1), a === 0 && b >= 0 ? 0 : power(a, b) * Math.log(a)],
};

/** What torch.promote_types gives; PyTorch itself has no i32 with u32. */
const promotions: Record<DType, Record<DType, DType>> = {
  f32: { f32: "f32", f16: "f32", bf16: "f32", i32: "f32", u32: "f32", bool: "f32" },
  f16: { f32: "f32", f16: "f16", bf16: "f32", i32: "f16", u32: "f16", bool: "f16" },
  bf16: { f32: "f32", f16: "f32", bf16: "bf16", i32: "bf16", u32: "bf16", bool: "bf16" },
  i32: { f32: "f32", f16: "f16", bf16: "bf16", i32: "i32", u32: "i32", bool: "i32" },
  u32: { f32: "f32", f16: "f16", bf16: "bf16", i32: "i32", u32: "u32", bool: "u32" },
  bool: { f32: "f32", f16: "f16", bf16: "bf16", i32: "i32", u32: "u32", bool: "bool" },
};

function promoted(name: BinaryName, a: DType, b: DType): DType {
  const dtype = promotions[a][b];
  return (name === "div" || name === "pow") && !isFloat(dtype) ? "f32" : dtype;
}

/** Noise of which some elements are whole and some are equal, so that ties and whole exponents occur. */
function operand(device: Tensor["device"], seed: number, shape: readonly number[], dtype: DType): Plain {
  const { values } = noise(device, seed, shape, dtype, 2);
  return { shape, values: values.map((v, i) => (i % 3 === 0 ? stored(dtype, Math.round(v)) : v)) };
}

/** Results near those of double precision; `pow` of wide exponents and 16-bit steps are relative. */
const near = (dtype: DType) =>
  isFloat(dtype) ? { ...toleranceOf(dtype), relative: Math.max(2e-6, toleranceOf(dtype).relative) } : {};

test.for(names)(
  "%s broadcasts and promotes as PyTorch does, in 200 random shapes and dtypes",
  async (name, { device }) => {
    const seeds = fc.integer({ min: 1, max: 1e6 });
    await fc.assert(
      fc.asyncProperty(broadcastable(2), anyDtype, anyDtype, seeds, async ([p, q], da, db, seed) => {
        const a = operand(device, seed, p as number[], da);
        const b = operand(device, seed + 1, q as number[], db);
        const dtype = promoted(name, da, db);
        const run = (): Tensor => binary[name](upload(device, a, da), upload(device, b, db));
        if (name === "sub" && dtype === "bool") {
          expect(run).toThrow(ShapeError);
          return;
        }
        const y = run();
        expect(y.dtype).toBe(dtype);
        const inDtype = (v: number): number => stored(dtype, v);
        const want = zip([a, b], (v, w) => inDtype(plain[name](inDtype(v), inDtype(w))));
        await expect(y).toBeClose(want, near(dtype));
      }),
      { numRuns: 200, seed: 31 },
    );
  },
);

test.for(names)("%s sums its cotangents over broadcast axes, in 200 random shapes", async (name, { device }) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(broadcastable(2), seeds, async ([p, q], seed) => {
      const a = operand(device, seed, p as number[], "f32");
      const b = operand(device, seed + 1, q as number[], "f32");
      const [x, y] = [requireGrad(upload(device, a)), requireGrad(upload(device, b))];
      const out = binary[name](x, y);
      const dy = noise(device, seed + 2, out.shape, "f32");
      const gradients = grad(out, [x, y], { cotangent: upload(device, dy) });
      for (const [i, operand] of [a, b].entries()) {
        const terms = zip([a, b, dy], (v, w, d) => d * (slopes[name](v, w)[i] as number));
        const scale = Math.max(1, ...terms.values.filter(Number.isFinite).map(Math.abs));
        await expect(gradients[i] as Tensor).toBeClose(summedTo(terms, operand.shape), {
          absolute: 2e-6 * scale,
          relative: 3e-6,
        });
      }
    }),
    { numRuns: 200, seed: 32 },
  );
});

test.for(names)("%s takes a number on either side, which never promotes a float", async (name, { device }) => {
  const numbers = [2, -3, 0, 0.5, 2 ** 24 + 1, -1.25];
  for (const dtype of dtypes) {
    const x = operand(device, 5, [3, 4], dtype);
    for (const number of numbers) {
      const beside = isFloat(dtype) ? dtype : !Number.isInteger(number) ? "f32" : dtype === "bool" ? "i32" : dtype;
      const want = promoted(name, beside, beside);
      const inDtype = (v: number): number => stored(want, v);
      // A float is computed in f32, and only the result is rounded.
      const constant = isFloat(want) ? Math.fround(number) : inDtype(number);
      for (const [run, result] of [
        [() => binary[name](upload(device, x, dtype), number), (v: number) => plain[name](v, constant)],
        [() => binary[name](number, upload(device, x, dtype)), (v: number) => plain[name](constant, v)],
      ] as const) {
        const y = run();
        expect(y.dtype).toBe(want);
        await expect(y).toBeClose({ shape: x.shape, values: x.values.map((v) => inDtype(result(v))) }, near(want));
      }
    }
  }
});

test("integers wrap, and are exact beyond what f32 holds", async ({ device }) => {
  const top = 2 ** 31 - 1;
  const a = tensor(device, Int32Array.of(top, -top - 1, 2 ** 24 + 1, 65_537));
  await expect(binary.add(a, 1)).toBeClose([-top - 1, -top, 2 ** 24 + 2, 65_538]);
  await expect(binary.sub(a, a)).toBeClose([0, 0, 0, 0]);
  await expect(binary.mul(a, 65_537)).toBeClose(
    Int32Array.from([top, -top - 1, 2 ** 24 + 1, 65_537], (v) => Math.imul(v, 65_537)),
  );
  await expect(binary.maximum(a, 2 ** 30 + 1)).toBeClose([top, 2 ** 30 + 1, 2 ** 30 + 1, 2 ** 30 + 1]);
  await expect(binary.minimum(2 ** 30 + 1, a)).toBeClose([2 ** 30 + 1, -top - 1, 2 ** 24 + 1, 65_537]);
  const u = tensor(device, Uint32Array.of(0, 2 ** 32 - 1));
  await expect(binary.add(u, -1)).toBeClose([2 ** 32 - 1, 2 ** 32 - 2]);
  await expect(binary.maximum(u, 7)).toBeClose([7, 2 ** 32 - 1]);
  await expect(binary.sub(1, u)).toBeClose([1, 2]);
});

test("bools are added by or, multiplied by and, and not subtracted", async ({ device }) => {
  const a = tensor(device, [false, false, true, true]);
  const b = tensor(device, [false, true, false, true]);
  await expect(binary.add(a, b)).toBeClose([0, 1, 1, 1]);
  await expect(binary.mul(a, b)).toBeClose([0, 0, 0, 1]);
  await expect(binary.maximum(a, b)).toBeClose([0, 1, 1, 1]);
  await expect(binary.minimum(a, b)).toBeClose([0, 0, 0, 1]);
  expect(binary.add(a, b).dtype).toBe("bool");
  expect(() => binary.sub(a, b)).toThrow("sub: bools have no sub");
});

const edges = [0, -0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, Infinity, -Infinity, Number.NaN];
const grid = edges.flatMap((a) => edges.map((b) => [a, b] as const));

test.for(names)("%s of zeros, infinities and NaN is what IEEE and C have", async (name, { device }) => {
  const [a, b] = [0, 1].map((side) =>
    tensor(
      device,
      Float32Array.from(grid, (pair) => pair[side] as number),
    ),
  ) as [Tensor, Tensor];
  const want = grid.map(([v, w]) => plain[name](v, w));
  await expect(binary[name](a, b)).toBeClose(want, { relative: 1e-6 });
});

test("division by zero gives infinities and NaN, also for integers and numbers", async ({ device }) => {
  const want = [Infinity, -Infinity, Number.NaN];
  await expect(binary.div(tensor(device, [1, -1, 0]), 0)).toBeClose(want);
  const y = binary.div(tensor(device, Int32Array.of(1, -1, 0)), tensor(device, Int32Array.of(0, 0, 0)));
  expect(y.dtype).toBe("f32");
  await expect(y).toBeClose(want);
});

test("pow keeps 1e-6 where a large exponent magnifies the rounding of a logarithm", async ({ device, random }) => {
  const pairs = Array.from({ length: 4000 }, (_, i): [number, number] => {
    const exponent = 40 * random.next() - 20;
    const base = i % 2 ? 10 ** (8 * random.next() - 4) : 1 + 0.01 * (random.next() - 0.5);
    return [Math.fround(base), Math.fround(i % 2 ? exponent : 400 * exponent)];
  });
  pairs.push(
    [Math.fround(1.0001), 10_000],
    [2, 127],
    [2, -126],
    [10, 38],
    [0.1, 38],
    [3, 80],
    [-3, 79],
    [-2, -3],
    [1e38, 0.99],
  );
  const [a, b] = [0, 1].map((side) =>
    tensor(
      device,
      Float32Array.from(pairs, (pair) => pair[side] as number),
    ),
  ) as [Tensor, Tensor];
  const want = pairs.map(([v, w]) => v ** w).map((v) => (Math.abs(v) < 2 ** -126 ? 0 : Math.fround(v)));
  await expect(binary.pow(a, b)).toBeClose(want, { absolute: 2e-38, relative: 1e-6 });
  const whole = tensor(device, [-3, -2, -1, 1, 2, 3]);
  for (const exponent of [-3, -2, -1, 0, 1, 2, 3, 11]) {
    await expect(binary.pow(whole, exponent)).toBeClose(
      [-3, -2, -1, 1, 2, 3].map((v) => v ** exponent),
      { relative: 1e-6 },
    );
  }
  expect([...(await binary.pow(whole, 0.5).read())].map(Number.isNaN)).toEqual([true, true, true, false, false, false]);
  await expect(binary.pow(2, tensor(device, [-1, 0, 0.5, 10]))).toBeClose([0.5, 1, Math.SQRT2, 1024], {
    relative: 1e-6,
  });
});

test("the quotient's gradient survives a divisor whose square would vanish or overflow", async ({ device }) => {
  for (const divisor of [1e-25, 1e25]) {
    const b = requireGrad(tensor(device, [divisor]));
    const y = binary.div(full(device, [1], divisor), b);
    await expect(grad(y, [b], { cotangent: full(device, [1], 1) })[0] as Tensor).toBeClose([-1 / divisor], {
      relative: 1e-5,
    });
  }
});

test("where maximum meets equals the cotangent is halved, and NaN passes it on as PyTorch does", async ({ device }) => {
  const a = requireGrad(tensor(device, [1, 2, 3, Number.NaN]));
  const b = requireGrad(tensor(device, [3, 2, 1, 0]));
  for (const [op, da, db] of [
    [binary.maximum, [0, 0.5, 1, 1], [1, 0.5, 0, 1]],
    [binary.minimum, [1, 0.5, 0, 1], [0, 0.5, 1, 1]],
  ] as const) {
    const [x, y] = grad(op(a, b), [a, b], { cotangent: full(device, [4], 1) }) as [Tensor, Tensor];
    await expect(x).toBeClose(da);
    await expect(y).toBeClose(db);
  }
});

test("more elements than 65,535 workgroups hold are all computed, whole vectors and broadcast ones", async ({
  device,
}) => {
  const n = 70_001;
  const column = tensor(
    device,
    Float32Array.from({ length: n }, (_, i) => i),
    { shape: [n, 1] },
  );
  const y = binary.add(column, tensor(device, new Float32Array(67).fill(1)));
  const values = await y.read();
  for (const row of [0, 62_599, 62_600, n - 1]) expect(values[67 * row + 66]).toBe(row + 1);
  const wide = await binary.mul(full(device, [4 * 64 * 65_537], 3), 2).read();
  expect([wide[0], wide[4 * 64 * 65_535], wide.at(-1)]).toEqual([6, 6, 6]);
});

test("axes that alternate six times are computed, and eight times are refused", async ({ device }) => {
  const six = binary.add(full(device, [2, 1, 2, 1, 2, 1], 1), full(device, [2, 1, 2, 1, 2], 2));
  await expect(six).toBeClose({ shape: [2, 2, 2, 2, 2, 2], values: Array(64).fill(3) });
  const [a, b] = [full(device, [2, 1, 2, 1, 2, 1, 2, 1], 1), full(device, [1, 2, 1, 2, 1, 2, 1, 2], 1)];
  expect(() => binary.add(a, b)).toThrow(
    "add: broadcasting to [2, 2, 2, 2, 2, 2, 2, 2] alternates over more than 6 axes",
  );
});

test("shapes that do not broadcast, and two numbers, are refused by name", ({ device }) => {
  const [a, b] = [full(device, [2, 3], 1), full(device, [4], 1)];
  expect(() => binary.add(a, b)).toThrow("add: [2, 3] and [4] do not broadcast: axis -1 is 3 and 4");
  expect(() => binary.pow(a, b)).toThrow("pow: [2, 3] and [4] do not broadcast");
  expect(() => binary.mul(1, 2)).toThrow(UsageError);
});

test.for(names)("%s has its slopes for gradients", async (name, { device, random }) => {
  const away = (shape: number[]): Tensor => random.uniform(shape, 0.5, 1.9);
  await checkGradients(binary[name] as (...x: Tensor[]) => Tensor, [away([3, 4]), binary.add(away([4]), 1.5)]);
  await checkGradients(binary[name] as (...x: Tensor[]) => Tensor, [away([2, 1, 3]), binary.add(away([5, 1]), 1.5)]);
  await checkGradients((x) => binary[name](x as Tensor, 2.5), [away([5])]);
  await checkGradients((x) => binary[name](2.5, x as Tensor), [away([5])]);
  await checkGradients((x) => binary[name](x as Tensor, full(device, [3, 1], 2)), [away([])]);
});
