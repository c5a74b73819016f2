import fc from "fast-check";
import { type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { mapLines, noise, stored, toleranceOf } from "../../test/tools/lines.ts";
import type { DType } from "../dtype.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { cast } from "./cast.ts";
import { tensor } from "./create.ts";
import { logSoftmax, softmax } from "./softmax.ts";

/** Both in double precision, on one line. */
const plain = {
  softmax: (line: readonly number[]): number[] => {
    const top = Math.max(...line);
    const powers = line.map((x) => Math.exp(x - top));
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((p) => p / total);
  },
  logSoftmax: (line: readonly number[]): number[] => {
    const top = Math.max(...line);
    const total = line.reduce((sum, x) => sum + Math.exp(x - top), 0);
    return line.map((x) => x - top - Math.log(total));
  },
};
/** The cotangent of a line of logits from the result and its cotangent. */
const slope = {
  softmax: (y: readonly number[], dy: readonly number[]): number[] => {
    const dot = y.reduce((sum, p, i) => sum + p * (dy[i] as number), 0);
    return y.map((p, i) => p * ((dy[i] as number) - dot));
  },
  logSoftmax: (y: readonly number[], dy: readonly number[]): number[] => {
    const total = dy.reduce((a, b) => a + b, 0);
    return y.map((p, i) => (dy[i] as number) - Math.exp(p) * total);
  },
};
const ops = { softmax, logSoftmax };
const names = ["softmax", "logSoftmax"] as const;

/** Lines of both arrays together, made into one. */
function zipLines(
  a: Plain,
  b: Plain,
  axis: number,
  f: (a: readonly number[], b: readonly number[]) => number[],
): Plain {
  const length = a.shape[axis] as number;
  const both = { shape: a.shape.with(axis, 2 * length), values: interleave(a, b, axis) };
  return mapLines(both, axis, (line) => f(line.slice(0, length), line.slice(length)));
}

/** `a` and `b` side by side along an axis. */
function interleave(a: Plain, b: Plain, axis: number): number[] {
  const inner = a.shape.slice(axis).reduce((x, y) => x * y, 1);
  const out: number[] = [];
  for (let begin = 0; begin < a.values.length; begin += inner) {
    out.push(...a.values.slice(begin, begin + inner), ...b.values.slice(begin, begin + inner));
  }
  return out;
}

const withAxis = (rank = 4): fc.Arbitrary<[number[], number]> =>
  shapes(rank)
    .filter((shape) => shape.length > 0)
    .chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: -shape.length, max: shape.length - 1 })));

test.for(names)(
  "%s and its gradient agree with double precision along any axis, in 200 random shapes",
  async (name, { device }) => {
    const dtype = fc.constantFrom<DType>("f32", "f32", "f16", "bf16");
    await fc.assert(
      fc.asyncProperty(withAxis(), dtype, fc.integer({ min: 1, max: 1e6 }), async ([shape, axis], dtype, seed) => {
        const front = axis < 0 ? axis + shape.length : axis;
        const logits = noise(device, seed, shape, dtype, 3);
        const x = requireGrad(upload(device, logits, dtype));
        const y = ops[name](x, axis);
        expect(y.dtype).toBe(dtype);
        await expect(y).toBeClose(mapLines(logits, front, plain[name]), toleranceOf(dtype));
        if (dtype !== "f32") return;
        const upstream = noise(device, seed + 1, shape, dtype);
        const [dx] = grad(y, [x], { cotangent: upload(device, upstream) }) as [Tensor];
        const want = zipLines(mapLines(logits, front, plain[name]), upstream, front, slope[name]);
        await expect(dx).toBeClose(want, { absolute: 3e-6, relative: 1e-6 });
      }),
      { numRuns: 200, seed: 3 },
    );
  },
);

/** Widths on both sides of every change of kernel, with lines next to each other and apart. */
const large: readonly (readonly [shape: number[], axis: number])[] = [
  [[3, 128], 1],
  [[9, 129], 1],
  [[7, 1024], 1],
  [[3, 1025], 1],
  [[2, 20_011], 1],
  [[64, 11], 0],
  [[65, 11], 0],
  [[3, 331, 7], 1],
  [[2, 67, 601], 1],
  [[70_001, 2], 1],
  [[600, 36], 1],
  [[513, 132], 1],
];

test.for(large)(
  "softmax of %j along axis %i agrees with double precision, and so does its gradient",
  async ([shape, axis], { device }) => {
    const logits = noise(device, 5, shape, "f32", 2);
    const upstream = noise(device, 6, shape, "f32");
    const x = requireGrad(upload(device, logits));
    const y = softmax(x, axis);
    const want = mapLines(logits, axis, plain.softmax);
    await expect(y).toBeClose(want, { absolute: 1e-7, relative: 2e-6 });
    const [dx] = grad(y, [x], { cotangent: upload(device, upstream) }) as [Tensor];
    await expect(dx).toBeClose(zipLines(want, upstream, axis, slope.softmax), { absolute: 1e-6, relative: 1e-5 });
    await expect(logSoftmax(x, axis)).toBeClose(mapLines(logits, axis, plain.logSoftmax), {
      absolute: 2e-6,
      relative: 1e-6,
    });
  },
);

test.for([5, 200, 1500])("entries of -inf among %i get probability 0 and gradient 0", async (width, { device }) => {
  const row = Float32Array.from({ length: width }, (_, i) => (i % 3 === 1 ? Math.sin(i) : -Infinity));
  const x = requireGrad(tensor(device, row, { shape: [1, width] }));
  const y = softmax(x);
  await expect(y).toBeClose(plain.softmax([...row]), { absolute: 1e-7, relative: 1e-6 });
  const [dx] = grad(y, [x], { cotangent: noiseLike(device, width) }) as [Tensor];
  const [p, d] = [await y.read(), await dx.read()];
  for (const [i, v] of row.entries()) {
    if (v === -Infinity) expect([p[i], Math.abs(d[i] as number)]).toEqual([0, 0]);
  }
  expect(d.every(Number.isFinite)).toBe(true);
  await expect(logSoftmax(x)).toBeClose(plain.logSoftmax([...row]), { absolute: 1e-6, relative: 1e-6 });
});

const noiseLike = (device: Tensor["device"], width: number): Tensor =>
  upload(device, noise(device, 9, [1, width], "f32"));

test.for([1, 3, 200, 1500])(
  "a row of %i that is all -inf, or holds +inf or NaN, is NaN as PyTorch has it",
  async (width, { device }) => {
    const rows = [
      Array.from({ length: width }, () => -Infinity),
      Array.from({ length: width }, (_, i) => (i === width - 1 ? Infinity : 0)),
      Array.from({ length: width }, (_, i) => (i === width >> 1 ? Number.NaN : i)),
      Array.from({ length: width }, (_, i) => (i === 0 ? Number.NaN : 1)),
      Array.from({ length: width }, (_, i) => i),
    ];
    const x = tensor(device, rows);
    for (const y of [softmax(x), logSoftmax(x)]) {
      const values = await y.read();
      expect(values.subarray(0, 4 * width).every(Number.isNaN)).toBe(true);
      expect(values.subarray(4 * width).some(Number.isNaN)).toBe(false);
    }
  },
);

test("large values neither overflow nor lose what sets them apart", async ({ device }) => {
  const row = [3e38, 3e38, -3e38, 2.9e38];
  await expect(softmax(tensor(device, row))).toBeClose([0.5, 0.5, 0, 0]);
  const logits = noise(device, 8, [4, 37], "f32", 40);
  const shifted = { ...logits, values: logits.values.map((v) => Math.fround(v + 300)) };
  const want = mapLines(shifted, 1, plain.softmax);
  await expect(softmax(upload(device, shifted))).toBeClose(want, { absolute: 1e-6, relative: 1e-5 });
  await expect(logSoftmax(upload(device, shifted))).toBeClose(mapLines(shifted, 1, plain.logSoftmax), {
    absolute: 1e-6,
    relative: 1e-6,
  });
});

test.for(["f16", "bf16"] as const)("%s is computed in f32 and rounded once", async (dtype, { device }) => {
  const logits = noise(device, 4, [5, 300], dtype, 2);
  const half = upload(device, logits, dtype);
  for (const op of [softmax, logSoftmax]) {
    const want = Array.from(await op(cast(half, "f32")).read(), (v) => stored(dtype, v));
    await expect(op(half)).toBeClose({ shape: [5, 300], values: want });
  }
});

test("integers count as f32, and tensors without elements stay so", async ({ device }) => {
  const y = softmax(tensor(device, Int32Array.of(1, 2, 3)));
  expect(y.dtype).toBe("f32");
  await expect(y).toBeClose(plain.softmax([1, 2, 3]), { absolute: 1e-6 });
  expect((await softmax(tensor(device, new Float32Array(0), { shape: [0, 3] })).read()).length).toBe(0);
  expect((await logSoftmax(tensor(device, new Float32Array(0), { shape: [3, 0] })).read()).length).toBe(0);
});

test.for(names)("%s has its slope for a gradient along every axis", async (name, { random }) => {
  for (const axis of [0, 1, 2]) await checkGradients((x) => ops[name](x as Tensor, axis), [random.normal([3, 5, 2])]);
  await checkGradients((x) => ops[name](x as Tensor), [random.normal([2, 150])]);
});

test("an axis that does not exist is refused by name", ({ device }) => {
  expect(() => softmax(tensor(device, [1, 2]), 1)).toThrow("softmax: there is no axis 1 in a tensor of rank 1");
  expect(() => logSoftmax(tensor(device, [1, 2]), -2)).toThrow("logSoftmax: there is no axis -2");
});
