import fc from "fast-check";
import { at, build, counting, indicesOf, type Plain, upload } from "../test/tools/arrays.ts";
import {
  applyRotary,
  attention,
  type AttentionOptions,
  layerNorm,
  linear,
  rmsNorm,
  rotateHalf,
  swiglu,
} from "./compositions.ts";
import type { DType } from "./dtype.ts";
import { tensor } from "./ops/create.ts";
import type { Tensor } from "./tensor.ts";
import { checkGradients, expect, test } from "./testing.ts";

const close = { absolute: 1e-5, relative: 1e-5 };

const plainOf = async (t: Tensor): Promise<Plain> => ({ shape: t.shape, values: [...(await t.read())] });
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** f of each vector of the last axis. */
function byRow({ shape, values }: Plain, f: (row: readonly number[]) => number[]): Plain {
  const width = shape.at(-1) as number;
  const rows = range(width === 0 ? 0 : values.length / width).map((i) => values.slice(i * width, (i + 1) * width));
  const out = rows.map(f);
  return { shape: [...shape.slice(0, -1), out[0]?.length ?? width], values: out.flat() };
}

const lead = fc.array(fc.constantFrom(0, 1, 2, 3), { maxLength: 3 });
const widths = fc.constantFrom(1, 2, 3, 7, 16, 65);
const scales = fc.constantFrom(1e-3, 1, 30);

test("200 random norms agree with double precision", async ({ random }) => {
  const runs = fc.tuple(lead, widths, scales, fc.constantFrom(1e-6, 1e-2));
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, width, scale, eps]) => {
      const x = random.normal([...shape, width], scale);
      const [weight, bias] = [random.normal([width]), random.normal([width])];
      const [X, W, B] = [await plainOf(x), await plainOf(weight), await plainOf(bias)];
      const gain = (row: readonly number[], spread: number): number[] =>
        row.map((v, i) => (v * (W.values[i] as number)) / Math.sqrt(spread + eps));
      const squares = (row: readonly number[]): number => sum(row.map((v) => v * v)) / width;
      const rms = byRow(X, (row) => gain(row, squares(row)));
      const layer = byRow(X, (row) => {
        const centred = row.map((v) => v - sum(row) / width);
        return gain(centred, squares(centred)).map((v, i) => v + (B.values[i] as number));
      });
      await Promise.all([
        expect(rmsNorm(x, weight, eps)).toBeClose({ ...rms, shape: x.shape }, close),
        expect(layerNorm(x, weight, bias, eps)).toBeClose({ ...layer, shape: x.shape }, close),
      ]);
    }),
    { numRuns: 200, seed: 81 },
  );
});

/** softmax(q kᵀ scale) v by its definition. */
function plainAttention(q: Plain, k: Plain, v: Plain, scale: number, causal: boolean, mask: Plain | null): Plain {
  const [B, H, Lq, K] = q.shape as [number, number, number, number];
  const [, G, Lk, V] = v.shape as [number, number, number, number];
  const values: number[] = [];
  for (const [b, h, i] of indicesOf([B, H, Lq]) as Iterable<[number, number, number]>) {
    const g = Math.floor(h / (H / G));
    const scores = range(Lk).map((j) => {
      if ((causal && j > i + Lk - Lq) || (mask && at(mask, [b, j]) === 0)) return -Infinity;
      return scale * sum(range(K).map((d) => at(q, [b, h, i, d]) * at(k, [b, g, j, d])));
    });
    const top = Math.max(...scores);
    const weights = scores.map((s) => Math.exp(s - top));
    const weighted = (d: number): number => sum(weights.map((w, j) => w * at(v, [b, g, j, d]))) / sum(weights);
    values.push(...range(V).map(weighted));
  }
  return { shape: [B, H, Lq, V], values };
}

test("200 random attentions agree with double precision, grouped, causal, masked or not", async ({
  device,
  random,
}) => {
  const runs = fc.record({
    B: fc.constantFrom(1, 2),
    G: fc.constantFrom(1, 2, 3),
    repeats: fc.constantFrom(1, 2, 3),
    Lq: fc.constantFrom(0, 1, 2, 5),
    cached: fc.constantFrom(0, 0, 1, 3),
    K: fc.constantFrom(1, 4, 7),
    V: fc.constantFrom(4, 5),
    scale: fc.option(fc.constantFrom(0.3, 2)),
    causal: fc.boolean(),
    masked: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(runs, async ({ B, G, repeats, Lq, cached, K, V, scale, causal, masked }) => {
      const Lk = Lq + cached;
      const q = random.normal([B, G * repeats, Lq, K]);
      const [k, v] = [random.normal([B, G, Lk, K]), random.normal([B, G, Lk, V])];
      const mask = masked ? build([B, Lk], ([, j]) => Number(j === 0 || random.next() < 0.6)) : null;
      const options: AttentionOptions = {
        ...(scale === null ? {} : { scale }),
        causal,
        mask: mask && upload(device, mask, "bool"),
      };
      const y = attention(q, k, v, options);
      const [Q, KK, VV] = [await plainOf(q), await plainOf(k), await plainOf(v)];
      await expect(y).toBeClose(plainAttention(Q, KK, VV, scale ?? K ** -0.5, causal, mask), close);
    }),
    { numRuns: 200, seed: 82 },
  );
});

test("200 random rotations and gated blocks agree with double precision", async ({ random }) => {
  const runs = fc.tuple(lead, fc.constantFrom(2, 4, 10, 34), fc.constantFrom(1, 3, 8), fc.boolean());
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, width, inner, withBias]) => {
      const x = random.normal([...shape, width]);
      const [cos, sin] = [random.normal([width]), random.normal([width])];
      const [gate, up, down] = [
        random.normal([inner, width]),
        random.normal([inner, width]),
        random.normal([width, inner]),
      ];
      const bias = withBias ? random.normal([inner]) : null;
      const [X, C, S] = [await plainOf(x), await plainOf(cos), await plainOf(sin)];
      const [g, u, d] = [await plainOf(gate), await plainOf(up), await plainOf(down)];
      const b = bias ? await plainOf(bias) : null;
      const times = (w: Plain, row: readonly number[]): number[] =>
        range(w.shape[0] as number).map((o) => sum(row.map((v, i) => v * at(w, [o, i]))));
      const turned = (row: readonly number[]): number[] =>
        row.map((v, i) => {
          const other = i < width / 2 ? -(row[i + width / 2] as number) : (row[i - width / 2] as number);
          return v * (C.values[i] as number) + other * (S.values[i] as number);
        });
      const gated = (row: readonly number[]): number[] => {
        const uppers = times(u, row);
        return times(
          d,
          times(g, row).map((v, i) => (v / (1 + Math.exp(-v))) * (uppers[i] as number)),
        );
      };
      const loose = { absolute: 1e-4, relative: 1e-4 };
      await Promise.all([
        expect(applyRotary(x, cos, sin)).toBeClose({ ...byRow(X, turned), shape: x.shape }, close),
        expect(swiglu(x, gate, up, down)).toBeClose({ ...byRow(X, gated), shape: x.shape }, loose),
        expect(linear(x, gate, bias)).toBeClose(
          { ...byRow(X, (row) => times(g, row).map((v, i) => v + (b?.values[i] ?? 0))), shape: [...shape, inner] },
          loose,
        ),
      ]);
    }),
    { numRuns: 200, seed: 83 },
  );
});

test("each composition has its slope for a gradient, in every tensor", async ({ device, random }) => {
  const normals = (...shapes: number[][]): Tensor[] => shapes.map((shape) => random.normal(shape));
  await checkGradients((x, w) => rmsNorm(x, w, 1e-2), normals([3, 5], [5]));
  await checkGradients((x, w, b) => layerNorm(x, w, b, 1e-2), normals([3, 5], [5], [5]));
  await checkGradients((x, w, b) => linear(x, w, b), normals([2, 3, 5], [4, 5], [4]));
  await checkGradients(swiglu, normals([3, 5], [4, 5], [4, 5], [5, 4]));
  await checkGradients(applyRotary, normals([2, 3, 6], [3, 6], [3, 6]));
  const mask = tensor(device, [
    [1, 1, 0, 1, 1],
    [1, 0, 1, 1, 0],
  ]);
  const shapes = [
    [2, 4, 3, 6],
    [2, 2, 5, 6],
    [2, 2, 5, 6],
  ];
  for (const options of [{}, { causal: true }, { mask }, { causal: true, mask, scale: 0.5 }]) {
    await checkGradients((q, k, v) => attention(q, k, v, options), normals(...shapes));
  }
});

test("half precision goes in and comes out, computed in f32 between", async ({ random }) => {
  for (const dtype of ["bf16", "f16"] as const satisfies DType[]) {
    const x = random.normal([4, 6], 1, dtype);
    const w = random.normal([6], 1, dtype);
    const y = rmsNorm(x, w, 1e-6);
    expect([y.dtype, layerNorm(x, w, w, 1e-6).dtype, applyRotary(x, w, w).dtype]).toEqual([dtype, dtype, dtype]);
    const [X, W] = [await plainOf(x), await plainOf(w)];
    const want = byRow(X, (row) => {
      const scale = 1 / Math.sqrt(sum(row.map((v) => v * v)) / 6 + 1e-6);
      return row.map((v, i) => v * scale * (W.values[i] as number));
    });
    // One rounding, that of the result.
    await expect(y).toBeClose(want, { absolute: 1e-6, relative: dtype === "bf16" ? 2 ** -8 : 2 ** -10 });
    // Cosine and sine tables stay f32 beside narrow heads.
    expect(applyRotary(x, random.normal([6]), random.normal([6])).dtype).toBe(dtype);
  }
});

test("a query that sees no key gives NaN, and the others do not notice", async ({ device, random }) => {
  const [q, k] = [random.normal([2, 1, 2, 4]), random.normal([2, 1, 3, 4])];
  const mask = tensor(device, [
    [0, 0, 0],
    [1, 1, 1],
  ]);
  const values = [...(await attention(q, k, k, { mask }).read())];
  expect(values.slice(0, 8).every(Number.isNaN)).toBe(true);
  expect(values.slice(8).every(Number.isFinite)).toBe(true);
});

test("NaN and infinities show in their own rows only", async ({ device }) => {
  const x = tensor(device, [
    [1, NaN],
    [1, 1],
    [Infinity, 1],
  ]);
  const w = tensor(device, [1, 1]);
  await expect(rmsNorm(x, w, 0)).toBeClose({ shape: [3, 2], values: [NaN, NaN, 1, 1, NaN, 0] });
  const y = [...(await layerNorm(x, w, w, 1).read())];
  expect(y.map(Number.isNaN)).toEqual([true, true, false, false, true, true]);
});

test("nothing is left behind but the result", async ({ device, random }) => {
  const [q, k] = [random.normal([1, 2, 3, 4]), random.normal([1, 1, 3, 4])];
  const before = device.memory().live;
  const y = attention(q, k, k, { causal: true });
  expect(device.memory().live).toBe(before + y.bytes);
});

test("a mistake is told with the composition and the shapes", ({ device }) => {
  const x = upload(device, counting([2, 3]));
  const [w2, w3] = [upload(device, counting([2])), upload(device, counting([3]))];
  expect(() => rmsNorm(x, w2, 1e-6)).toThrow("rmsNorm: weight is [2], x [2, 3]; it is as long as the last axis of x");
  expect(() => layerNorm(x, w3, x, 1e-6)).toThrow("layerNorm: bias is [2, 3], x [2, 3]");
  expect(() => linear(x, x, w3)).toThrow("linear: bias is [3], weight [2, 3]");
  expect(() => rotateHalf(x)).toThrow("rotateHalf: the last axis of [2, 3] has no halves");
  const q = upload(device, counting([1, 3, 2, 4]));
  const k = upload(device, counting([1, 2, 2, 4]));
  expect(() => attention(q, k, k)).toThrow("attention: q [1, 3, 2, 4], k [1, 2, 2, 4], v [1, 2, 2, 4] do not fit");
  expect(() => attention(x, k, k)).toThrow("attention: q [2, 3], k [1, 2, 2, 4]");
  expect(() => attention(k, k, k, { mask: x })).toThrow("mask [2, 3] do not fit [B, H, Lq, K]");
});
