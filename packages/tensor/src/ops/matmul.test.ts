import fc from "fast-check";
import type { DType } from "../dtype.ts";
import { Random } from "../cases.ts";
import { ShapeError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { backward, grad } from "../grad.ts";
import { broadcast, type Shape, size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { cast } from "./cast.ts";
import { full, tensor } from "./create.ts";
import { matmul, type MatmulOptions } from "./matmul.ts";
import { multiply } from "./matmul-product.ts";
import { productKernel } from "./matmul-settings.ts";
import { sum } from "./reduce.ts";

/** Values of a matrix batch on the host. */
interface Plain {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
}

/** The product in double precision, by its definition; both operands have two axes at least. */
function product(a: Plain, b: Plain, { transposeA = false, transposeB = false }: MatmulOptions = {}): Plain {
  const lead = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2), "reference");
  const [p, q] = a.shape.slice(-2) as [number, number];
  const [r, s] = b.shape.slice(-2) as [number, number];
  const [m, k] = transposeA ? [q, p] : [p, q];
  const n = transposeB ? r : s;
  const values = new Float64Array(size(lead) * m * n);
  for (let batch = 0; batch < size(lead); batch++) {
    const [a0, b0] = [start(a.shape, lead, batch), start(b.shape, lead, batch)];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let total = 0;
        for (let l = 0; l < k; l++) {
          const x = a.values[a0 + (transposeA ? l * m + i : i * k + l)] as number;
          const w = b.values[b0 + (transposeB ? j * k + l : l * n + j)] as number;
          total += x * w;
        }
        values[(batch * m + i) * n + j] = total;
      }
    }
  }
  return { shape: [...lead, m, n], values };
}

/** Where the matrix of one batch begins in an operand. */
function start(shape: Shape, lead: Shape, batch: number): number {
  let at = 0;
  let step = size(shape.slice(-2));
  for (let d = lead.length - 1, own = shape.length - 3, rest = batch; own >= 0; d--, own--) {
    const length = shape[own] as number;
    if (length > 1) at += (rest % (lead[d] as number)) * step;
    rest = Math.floor(rest / (lead[d] as number));
    step *= length;
  }
  return at;
}

/** Summed over the axes that `shape` was broadcast along. */
function summed({ shape, values }: Plain, to: Shape): Plain {
  const out = new Float64Array(size(to));
  const each = size(shape.slice(-2));
  for (let batch = 0; batch < size(shape.slice(0, -2)); batch++) {
    const at = start(to, shape.slice(0, -2), batch);
    for (let i = 0; i < each; i++) out[at + i] = (out[at + i] as number) + (values[batch * each + i] as number);
  }
  return { shape: to, values: out };
}

const plain = async (t: Tensor): Promise<Plain> => ({ shape: t.shape, values: await t.read() });

const lengths = fc.constantFrom(0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 31, 33);
const floats = fc.constantFrom<DType>("f32", "f32", "bf16", "f16");

/** Two operands whose leading axes broadcast. */
const operands = fc
  .record({
    m: lengths,
    k: lengths,
    n: lengths,
    lead: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 4 }),
    drop: fc.tuple(fc.nat(4), fc.nat(4)),
    ones: fc.tuple(
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    ),
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    types: fc.tuple(floats, floats),
  })
  .map(({ m, k, n, lead, drop, ones, transposeA, transposeB, types }) => {
    const leading = (i: 0 | 1): number[] => lead.map((length, d) => (ones[i][d] ? 1 : length)).slice(drop[i]);
    return {
      a: [...leading(0), ...(transposeA ? [k, m] : [m, k])],
      b: [...leading(1), ...(transposeB ? [n, k] : [k, n])],
      transposes: { transposeA, transposeB },
      types,
    };
  });

/** How far a sum of k products may be off: f32 rounding, and that of the result's own dtype. */
const tolerance = (dtype: DType, k: number) => ({
  absolute: 1e-6 * (k + 1),
  relative: dtype === "bf16" ? 2 ** -8 : dtype === "f16" ? 2 ** -10 : 1e-5,
});

test("200 random products agree with double precision, and so do their gradients", async ({ random }) => {
  await fc.assert(
    fc.asyncProperty(operands, async ({ a: aShape, b: bShape, transposes, types }) => {
      const a = requireGrad(random.normal(aShape, 1, types[0]));
      const b = requireGrad(random.normal(bShape, 1, types[1]));
      const y = matmul(a, b, transposes);
      const [pa, pb] = [await plain(a), await plain(b)];
      const want = product(pa, pb, transposes);
      const k = aShape.at(transposes.transposeA ? -2 : -1) as number;
      await expect(y).toBeClose(want, tolerance(y.dtype, k));

      const dy = random.normal(y.shape, 1, y.dtype);
      const [da, db] = grad(y, [a, b], { cotangent: dy }) as [Tensor, Tensor];
      expect([da.dtype, db.dtype]).toEqual(types);
      const pdy = await plain(dy);
      const { transposeA, transposeB } = transposes;
      const wantDa = transposeA
        ? product(pb, pdy, { transposeA: transposeB, transposeB: true })
        : product(pdy, pb, { transposeB: !transposeB });
      const wantDb = transposeB
        ? product(pdy, pa, { transposeA: true, transposeB: transposeA })
        : product(pa, pdy, { transposeA: !transposeA });
      // A 16-bit gradient may be rounded before it is summed over the batch as well as after.
      const loose = (dtype: DType) => ({ absolute: dtype === "f32" ? 1e-4 : 0.2, relative: 2 ** -7 });
      await expect(da).toBeClose(summed(wantDa, a.shape), loose(da.dtype));
      await expect(db).toBeClose(summed(wantDb, b.shape), loose(db.dtype));
      for (const t of [a, b, y, dy, da, db]) t.dispose();
    }),
    { numRuns: 200, seed: 11 },
  );
});

/** Every way the operands can lie, at sizes that fill more than one tile of each kind and end in the middle of one. */
const layouts = [false, true].flatMap((transposeA) =>
  [false, true].flatMap((transposeB) => [
    { m: 68, k: 36, n: 132, transposeA, transposeB },
    { m: 67, k: 37, n: 131, transposeA, transposeB },
  ]),
);

/** A setting gets half of the layouts, and its neighbour the other half: each arrangement meets all of them. */
const halves = productKernel.settings().map((setting, i) => ({
  name: Object.values(setting).join(" "),
  setting,
  half: layouts.filter((_, j) => (i + j + (j >> 1)) % 2 === 0),
}));

test.for(halves)("every layout is right with $name", async ({ setting, half }, { device, random, skip }) => {
  skip(!productKernel.runsOn(device, setting), "this adapter cannot run it");
  for (const { m, k, n, transposeA, transposeB } of half) {
    // Only single products are cut along k.
    const batch = setting["kernel"] === "split" ? [] : [3];
    const a = random.normal([...batch, ...(transposeA ? [k, m] : [m, k])]);
    const b = random.normal([...batch, ...(transposeB ? [n, k] : [k, n])]);
    const y = productKernel.with(setting, () => multiply(a, b, { transposeA, transposeB }, "f32"));
    await expect(y).toBeClose(product(await plain(a), await plain(b), { transposeA, transposeB }), tolerance("f32", k));
  }
});

test("packed, every layout, dtype and broadcast batch is right, in one part and in several", async ({
  device,
  random,
  skip,
}) => {
  const packed = { kernel: "packed" };
  skip(!productKernel.runsOn(device, packed), "this adapter has no subgroups of 4 to 16 lanes");
  const small = await openDevice({ limits: { maxStorageBufferBindingSize: 16_384 } });
  for (const on of [device, small]) {
    const draw = on === small ? new Random(on) : random;
    for (const { m, k, n, transposeA, transposeB } of layouts) {
      // On the small device odd matrices must fit one binding.
      const [leadA, leadB] = on === device ? [[2, 1], [3]] : [[], []];
      const rows = on === device || m % 4 === 0 ? m : 33;
      const columns = on === device || n % 4 === 0 ? n : 57;
      const a = draw.normal([...leadA, ...(transposeA ? [k, rows] : [rows, k])], 1, transposeB ? "bf16" : "f32");
      const b = draw.normal([...leadB, ...(transposeB ? [columns, k] : [k, columns])], 1, transposeA ? "f16" : "f32");
      const y = productKernel.with(packed, () => multiply(a, b, { transposeA, transposeB }, "f32"));
      const want = product(await plain(a), await plain(b), { transposeA, transposeB });
      await expect(y).toBeClose(want, tolerance("f32", k));
    }
  }
  small.destroy();
});

test("a long sum into a small result is cut into parts, and added up", async ({ device, random }) => {
  const [a, b] = [random.normal([4096, 8]), random.normal([4096, 12])];
  const before = device.dispatchCount;
  const y = matmul(a, b, { transposeA: true });
  expect(device.dispatchCount - before).toBeGreaterThan(1);
  await expect(y).toBeClose(product(await plain(a), await plain(b), { transposeA: true }), { absolute: 1e-3 });
});

test("mixed sizes at which only some operands are read as vectors agree with double precision", async ({
  device,
  random,
}) => {
  for (const [m, k, n, transposes, dtype] of [
    [67, 64, 65, { transposeB: true }, "f32"], // scores of an odd number of tokens
    [65, 65, 64, {}, "f32"], // and their product with the values
    [64, 67, 64, { transposeA: true }, "f32"], // the gradient of a weight
    [64, 64, 64, {}, "bf16"],
    [64, 67, 64, { transposeB: true }, "f16"],
  ] as const) {
    const { transposeA = false, transposeB = false }: MatmulOptions = transposes;
    const a = random.normal(transposeA ? [k, m] : [m, k]);
    const b = random.normal(transposeB ? [n, k] : [k, n], 1, dtype);
    const want = product(await plain(a), await plain(b), transposes);
    await expect(matmul(a, b, transposes)).toBeClose(want, tolerance("f32", k));
  }
  expect(device.isLost).toBe(false);
});

test("one b for a whole batch is one product, and so is its gradient", async ({ device, random }) => {
  const a = requireGrad(random.normal([3, 5, 40, 24]));
  const b = requireGrad(random.normal([24, 32]));
  const before = device.dispatchCount;
  const y = matmul(a, b);
  expect(device.dispatchCount - before).toBe(1);
  expect(y.shape).toEqual([3, 5, 40, 32]);
  const dy = random.normal(y.shape);
  const [da, db] = grad(y, [a, b], { cotangent: dy }) as [Tensor, Tensor];
  expect(device.dispatchCount - before).toBe(3);
  const [pa, pb, pdy] = [await plain(a), await plain(b), await plain(dy)];
  const wantDb = summed(product(pa, pdy, { transposeA: true }), b.shape);
  await expect(y).toBeClose(product(pa, pb), tolerance("f32", 24));
  await expect(da).toBeClose(product(pdy, pb, { transposeB: true }), tolerance("f32", 32));
  await expect(db).toBeClose(wantDb, { absolute: 1e-3 });
});

test("a frozen operand costs neither a gradient nor memory", ({ device, random }) => {
  const weight = random.normal([48, 32]);
  const x = requireGrad(random.normal([64, 48]));
  const cotangent = random.normal([64, 32]);
  const y = matmul(x, weight);
  expect(y.node?.saved.map((saved) => saved.isDisposed)).toEqual([true, false, true]);
  const before = device.dispatchCount;
  backward(y, { cotangent });
  expect(device.dispatchCount - before).toBe(1);
  expect(weight.grad).toBeNull();
});

test("vectors: a row on the left, a column on the right, a number of both", async ({ device }) => {
  const v = tensor(device, [1, 2, 3]);
  const w = tensor(device, [4, 5, 6]);
  const a = tensor(device, [
    [1, 0, 2],
    [0, 3, 0],
  ]);
  await expect(matmul(v, w)).toBeClose({ shape: [], values: [32] });
  await expect(matmul(a, v)).toBeClose({ shape: [2], values: [7, 6] });
  await expect(matmul(tensor(device, [1, 2]), a)).toBeClose({ shape: [3], values: [1, 6, 2] });
  await expect(matmul(v, a, { transposeB: true })).toBeClose({ shape: [2], values: [7, 6] });
  await expect(matmul(full(device, [4, 2, 3], 1), v)).toBeClose({ shape: [4, 2], values: Array(8).fill(6) });
  await checkGradients((p, q) => matmul(p, q), [v, w]);
  await checkGradients((p, q) => matmul(p, q), [a, v]);
  await checkGradients((p, q) => matmul(p, q, { transposeB: true }), [v, a]);
});

test.for([
  [{}, [2, 3, 5], [2, 5, 4]],
  [{ transposeA: true }, [5, 3], [3, 5, 4]],
  [{ transposeB: true }, [2, 1, 3, 5], [3, 4, 5]],
  [{ transposeA: true, transposeB: true }, [2, 5, 3], [1, 4, 5]],
] as const)("its gradients are its slopes: %j of %j and %j", async ([transposes, a, b], { random }) => {
  await checkGradients((p, q) => matmul(p, q, transposes), [random.normal(a), random.normal(b)]);
});

test("a sum of nothing is 0, and empty results have their shape", async ({ device }) => {
  await expect(matmul(full(device, [3, 0], 1), full(device, [0, 2], 1))).toBeClose({
    shape: [3, 2],
    values: Array(6).fill(0),
  });
  for (const [a, b, shape] of [
    [
      [0, 3],
      [3, 2],
      [0, 2],
    ],
    [
      [2, 3],
      [3, 0],
      [2, 0],
    ],
    [
      [0, 2, 3],
      [3, 4],
      [0, 2, 4],
    ],
    [
      [0, 2, 3],
      [1, 3, 4],
      [0, 2, 4],
    ],
  ] as const) {
    expect((await matmul(full(device, a, 1), full(device, b, 1)).read()).length).toBe(0);
    expect(matmul(full(device, a, 1), full(device, b, 1)).shape).toEqual(shape);
  }
});

test("NaN and infinity reach their row and column and nothing else", async ({ device, random }) => {
  for (const [m, k, n] of [
    [5, 6, 7],
    [68, 37, 66],
  ] as const) {
    const [a, b] = [random.normals(m * k), random.normals(k * n)];
    a[2 * k + 3] = Number.NaN;
    b[4 * n + 5] = Number.POSITIVE_INFINITY;
    const y = await matmul(tensor(device, a, { shape: [m, k] }), tensor(device, b, { shape: [k, n] })).read();
    for (let i = 0; i < m * n; i++) {
      const [row, column] = [Math.floor(i / n), i % n];
      const kind = row === 2 ? "NaN" : column === 5 ? "infinite" : "finite";
      const got = Number.isNaN(y[i]) ? "NaN" : Number.isFinite(y[i]) ? "finite" : "infinite";
      if (got !== kind) expect.fail(`y[${row}, ${column}] is ${y[i]}`);
    }
  }
});

test("what lies behind a matrix never reaches its product", async ({ device }) => {
  // K is no multiple of 4: the last step of each row and column would run into the next matrix, which is all NaN.
  const half = (count: number): Float32Array =>
    Float32Array.from({ length: 2 * count }, (_, i) => (i < count ? 1 : Number.NaN));
  for (const [kernel, m, k, n] of [
    [undefined, 34, 41, 52],
    ["packed", 34, 41, 52],
    ["packed", 36, 41, 52],
  ] as const) {
    if (kernel && !productKernel.runsOn(device, { kernel })) continue;
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        const a = tensor(device, half(m * k), { shape: transposeA ? [2, k, m] : [2, m, k] });
        const b = tensor(device, half(k * n), { shape: transposeB ? [2, n, k] : [2, k, n] });
        const made = (): Tensor => multiply(a, b, { transposeA, transposeB }, "f32");
        const y = await (kernel ? productKernel.with({ kernel }, made) : made()).read();
        expect(y.subarray(0, m * n).every((v) => v === k)).toBe(true);
        expect(y.subarray(m * n).every((v) => Number.isNaN(v))).toBe(true);
      }
    }
  }
});

test("more than 65,535 workgroups along m, and as many matrices in a batch", async ({ device }) => {
  const rows = 65_536 * 16 + 3;
  const tall = matmul(full(device, [rows, 1], 3), full(device, [1, 4], 0.5));
  expect(await sum(tall).item()).toBe(6 * rows);
  const many = matmul(full(device, [66_000, 1, 2], 1), full(device, [66_000, 2, 4], 0.25));
  expect(await sum(many).item()).toBe(66_000 * 4 * 0.5);
});

test("the result of two bf16 operands is bf16, and of f32 with one f32", async ({ random }) => {
  const a = random.normal([8, 8]);
  const b = random.normal([8, 8], 1, "bf16");
  expect(matmul(a, b).dtype).toBe("f32");
  expect(matmul(cast(a, "bf16"), b).dtype).toBe("bf16");
  expect(matmul(cast(a, "f16"), b).dtype).toBe("f32");
});

test("what does not fit is refused with both shapes", ({ device }) => {
  const of = (...shape: number[]): Tensor => full(device, shape, 1);
  expect(() => matmul(of(2, 3), of(4, 5))).toThrow(new ShapeError("matmul: a [2, 3] and b [4, 5]: K is 3 and 4"));
  expect(() => matmul(of(2, 3), of(3, 5), { transposeB: true })).toThrow(/b \[3, 5\] \(transposed\): K is 3 and 5/);
  expect(() => matmul(of(2, 3, 4), of(3, 4, 5))).toThrow(/\[2, 3, 4\] and \[3, 4, 5\]/);
  expect(() => matmul(of(), of(3, 5))).toThrow(/a \[\] and b \[3, 5\]: a scalar is no matrix/);
  expect(() => matmul(of(3), of(3, 5), { transposeA: true })).toThrow(/no axes to transpose/);
  expect(() => matmul(cast(of(2, 3), "i32"), of(3, 5))).toThrow(/it multiplies floats, got i32 and f32/);
});
